# MetaCLIP's ViT-B/16 (CC-BY-NC-4.0, no commercial use). Layers as for OpenAI's, of the same depth.
backbone = dict(
    encoder=dict(model='ViT-B-16-quickgelu', pretrained='metaclip_fullcc'),
    DMAR=dict(layers=(8, 9, 10), votes=4),
    DMAR_stuff=dict(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10), votes=4),
    AffinityRefinement=dict(layers=(4, 5, 6, 7, 8, 9, 10, 11)),
    AffinityRefinement_voc=dict(layers=(4, 5, 6, 7, 8, 9, 10)),
)
