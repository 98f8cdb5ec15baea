# Trident (2024): windows are spliced before the projection, gathered along SAM's attention, and SAM
# draws the masks again. --download fetches the weights of DINO (by timm) and SAM (Meta's file); to
# use files, set pretrained=None and checkpoint of source (pretrained=False) and sam.
_base_ = './direct.py'
model = dict(
    encoder=dict(
        last_block=dict(
            type='mmtagclip.ProxyLastBlock',
            source=dict(
                type='mmtagclip.TimmFeatures',
                model='vit_base_patch16_224.dino',
                pretrained=True,
                positions='bicubic_scale',  # as the released code's DINO resizes them
            ),
            keep_grid=True,
        ),
    ),
    windows=dict(size=336, stride=224),
    gatherer=dict(
        type='mmtagclip.SAMGatherer',
        sam=dict(type='mmtagclip.SAM', model='sam_vit_b', pretrained='sa1b'),
    ),
    label_processor=dict(type='mmtagclip.SAMRefinement', published_prompt=True),
)
