test_evaluator = [
    dict(type='mmpretrain.AveragePrecision'),
    dict(type='mmtagclip.RelativeThresholdMetric', k=0.5),
]
