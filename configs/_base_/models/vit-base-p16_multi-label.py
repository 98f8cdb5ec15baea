# A multi-label classifier on CLIP's own ViT-B/16. Its weights are written by
# python tools/model_converters/clip2vit.py ViT-B-16-quickgelu \
#     --pretrained openai --out work_dirs/vit-base-p16_openai.pth
# A leaf config sets num_classes.
model = dict(
    type='ImageClassifier',
    data_preprocessor=dict(
        mean=[122.771, 116.746, 104.094], std=[68.501, 66.632, 70.323], to_rgb=True, to_onehot=True
    ),
    backbone=dict(
        type='VisionTransformer',
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
    head=dict(
        type='CSRAClsHead',
        in_channels=768,
        num_heads=1,
        lam=0.3,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
    ),
)
