# ProxyCLIP (ECCV 2024): DINO's features say which patches belong together. timm
# downloads their weights at the first use; to use a file, set
# model.encoder.last_block.source.pretrained=False and its checkpoint.
_base_ = './direct.py'
model = dict(
    encoder=dict(
        last_block=dict(
            type='mmtagclip.ProxyLastBlock',
            source=dict(
                type='mmtagclip.TimmFeatures',
                model='vit_base_patch8_224.dino',
                pretrained=True,
                positions='bicubic_scale',  # as the published program's DINO resizes them
            ),
            keep_grid=True,
        ),
    ),
    windows=dict(size=336),
)
