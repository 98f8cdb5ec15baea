# A linear head on the patches of CLIP's own ViT-B/16. Its weights are written by
# python tools/model_converters/clip2vit.py ViT-B-16-quickgelu \
#     --pretrained openai --out work_dirs/vit-base-p16_openai.pth
# A leaf config sets num_classes.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[122.771, 116.746, 104.094],
        std=[68.501, 66.632, 70.323],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='base',
        img_size=224,
        patch_size=16,
        pre_norm=True,
        norm_cfg=dict(type='LN', eps=1e-5),
        interpolate_mode='bilinear',
        layer_cfgs=dict(act_cfg=dict(type='mmpretrain.QuickGELU')),
        out_type='featmap',
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/vit-base-p16_openai.pth'),
    ),
    decode_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=0,
        channels=768,
        num_convs=0,
        concat_input=False,
        dropout_ratio=0.0,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0, avg_non_ignore=True),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
