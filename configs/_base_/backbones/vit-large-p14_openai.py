# OpenAI's ViT-L/14. 24 blocks: the layers of SC-CLIP are those that its authors name for ViT-L;
# DMAR's 16 to 22 and 8 votes are the counterparts, chosen here, of the published 8 to 10 and 4
# for 12 blocks, and so are the affinity's. Nobody has named layers for ITACLIP: set them.
backbone = dict(
    encoder=dict(model='ViT-L-14-quickgelu', pretrained='openai'),
    DMAR=dict(layers=(16, 17, 18, 19, 20, 21, 22), votes=8),
    DMAR_stuff=dict(layers=tuple(range(23)), votes=8),
    AffinityRefinement=dict(layers=tuple(range(8, 24))),
    AffinityRefinement_voc=dict(layers=tuple(range(8, 23))),
    SCCLIPLastBlock=dict(
        similarity_layer=16,
        output_layer=6,
        fusion_layers=(8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18),
        class_token_weight=0.1,
    ),
)
