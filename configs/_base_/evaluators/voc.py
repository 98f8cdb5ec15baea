# What counts of objects that VOC marks as difficult. TagCLIP's labels count them as positive,
# VOC's own evaluation leaves them out; in PIAA's labels, what occurs only as a difficult object
# does not occur.
difficult_positive, difficult_ignored, difficult_negative = (
    [
        dict(type='mmtagclip.VOCAveragePrecision', **how),
        dict(type='mmtagclip.VOCRelativeThresholdMetric', k=0.5, **how),
    ]
    for how in (
        dict(prefix='difficult_positive', difficult_as_positive=True),
        dict(prefix='difficult_ignored'),
        dict(prefix='difficult_negative', difficult_as_positive=False),
    )
)
