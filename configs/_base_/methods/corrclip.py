# CorrCLIP (ICCV 2025): patches gather by DINO's features within regions, and every region gets
# its majority label. timm downloads DINO's weights at the first use; to use a file, set
# model.encoder.last_block.source.pretrained=False and its checkpoint.
_base_ = './direct.py'
model = dict(
    encoder=dict(
        last_block=dict(
            type='mmtagclip.CorrCLIPLastBlock',
            source=dict(
                type='mmtagclip.TimmFeatures',
                model='vit_base_patch8_224.dino',
                pretrained=True,
                positions='bicubic_scale',  # as the published program's DINO resizes them
                tokens='q+k',
            ),
        ),
    ),
    windows=dict(size=336, pad_to=56),
    label_processor=dict(type='mmtagclip.MapCorrection'),
)
