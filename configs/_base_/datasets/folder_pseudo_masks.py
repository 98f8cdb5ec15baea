# Trained on a folder of photographs and its pseudo masks. There are no true
# masks to evaluate on: tools/test.py --show-dir draws what the segmentor sees.
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=(2048, 512), ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=(512, 512), cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 512), keep_ratio=True),
    dict(type='PackSegInputs'),
]
_suffixes = ('.jpg', '.jpeg', '.png', '.webp', '.bmp', '.tif', '.tiff')
train_dataloader = dict(
    batch_size=16,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='mmtagclip.PseudoLabelDataset',
        drop_untagged=True,
        dataset=dict(
            type='mmtagclip.VocabularySegDataset', img_suffix=_suffixes, pipeline=train_pipeline
        ),
    ),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmtagclip.VocabularySegDataset',
        img_suffix=_suffixes,
        pipeline=test_pipeline,
        test_mode=True,
    ),
)
test_evaluator = []
