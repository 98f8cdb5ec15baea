_base_ = './tagclip_vit-base-p16_openai_voc07.py'
# PIAA's labels: what occurs only as a difficult object does not occur.
test_evaluator = [
    dict(
        type='mmpretrain.VOCAveragePrecision',
        difficult_as_positive=False,
        prefix='difficult_negative',
    ),
    dict(
        type='mmtagclip.VOCRelativeThresholdMetric',
        k=0.5,
        difficult_as_positive=False,
        prefix='difficult_negative',
    ),
]
