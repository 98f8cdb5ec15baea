_base_ = './piaa-sclip_vit-base-p16_openai_voc07.py'
# TagCLIP's labels: difficult objects count as any other.
test_evaluator = [
    dict(
        type='mmpretrain.VOCAveragePrecision',
        difficult_as_positive=True,
        prefix='difficult_positive',
    ),
    dict(
        type='mmtagclip.VOCRelativeThresholdMetric',
        k=0.5,
        difficult_as_positive=True,
        prefix='difficult_positive',
    ),
]
