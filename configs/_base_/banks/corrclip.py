# What `mmtagclip bank` makes of regions, for CorrCLIP's second version: MetaCLIP's features,
# gathered by DINO's within regions that are not merged, and RADIO's as keys.
model = dict(
    type='mmtagclip.RegionEncoder',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='metaclip_fullcc',
        positions='bicubic_scale',
        last_block=dict(
            type='mmtagclip.CorrCLIPLastBlock',
            source=dict(
                type='mmtagclip.TimmFeatures',
                model='vit_base_patch8_224.dino',
                pretrained=True,
                positions='bicubic_scale',
                tokens='q+k',
            ),
            merge=False,
        ),
    ),
    source=dict(
        type='mmtagclip.TimmFeatures',
        model='vit_large_patch16_radio_v3.c_radio',
        pretrained=True,
        fit='nearest',
    ),
)
