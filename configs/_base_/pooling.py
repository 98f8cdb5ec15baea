# The pooling of a frozen CLIP learns from DINO on images without labels: CLIP-DINOiser's 6,300
# steps of 16 crops of 448 pixels.
_base_ = './seg_train_runtime.py'
model = dict(
    type='mmtagclip.PoolingTrainer',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        positions='bicubic',
        pooling=dict(type='mmtagclip.LearntPooling'),
    ),
    teacher=dict(
        type='mmtagclip.TimmFeatures',
        model='vit_base_patch16_224.dino',
        pretrained=True,
        tokens='v',
        positions='bicubic_scale',  # as the released code's DINO resizes them
    ),
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
train_pipeline = [
    dict(type='mmtagclip.LoadImage'),
    dict(type='ResizeShortestEdge', scale=448, max_size=100000),
    dict(type='RandomCrop', crop_size=(448, 448)),
    dict(type='RandomFlip', prob=0.5),
    dict(type='mmpretrain.ColorJitter', brightness=0.5),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='pseudo_collate'),
)
# The 1x1 convolution learns 200 times as fast as the 3x3 one.
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=5e-5, weight_decay=0.01),
    paramwise_cfg=dict(custom_keys=dict(bkg_decoder=dict(lr_mult=200.0))),
)
param_scheduler = [dict(type='MultiStepLR', milestones=[5000], gamma=0.1, by_epoch=False)]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=6300, val_interval=6301)
default_hooks = dict(checkpoint=dict(interval=500))
val_cfg = None
test_cfg = None
