_base_ = './tagclip_vit-base-p16_openai_voc12.py'
# PIAA's images: the 5,823 of val, not the 1,449 of the segmentation split.
test_dataloader = dict(dataset=dict(image_set_path='ImageSets/Main/val.txt'))
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
