# CorrCLIP's second version without its memory bank: RADIO's features, once per image, and regions
# as they are.
_base_ = './corrclip.py'
model = dict(
    encoder=dict(
        last_block=dict(
            source=dict(
                _delete_=True,
                type='mmtagclip.TimmFeatures',
                model='vit_large_patch16_radio_v3.c_radio',
                pretrained=True,
                fit='nearest',
            ),
            whole_image=True,
        ),
    ),
)
