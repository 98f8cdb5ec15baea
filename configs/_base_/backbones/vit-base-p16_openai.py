# OpenAI's ViT-B/16. The weights are downloaded by open_clip at the first use;
# to use a file, set model.encoder.pretrained=None and model.encoder.checkpoint.
backbone = dict(
    encoder=dict(model='ViT-B-16-quickgelu', pretrained='openai'),
    # Layers by part, as published for 12 blocks, which are also what the last blocks of other
    # methods have by themselves; `_stuff` and `_voc` for data sets that ask for them.
    DMAR=dict(layers=(8, 9, 10), votes=4),
    DMAR_stuff=dict(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), votes=4),
    AffinityRefinement=dict(layers=(4, 5, 6, 7, 8, 9, 10, 11)),
    AffinityRefinement_voc=dict(layers=(4, 5, 6, 7, 8, 9, 10)),
)
