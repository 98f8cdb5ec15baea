test_evaluator = [
    dict(type='mmtagclip.AveragePrecision'),
    dict(type='mmtagclip.RelativeThresholdMetric', k=0.5),
]
