_base_ = './piaa-sclip_vit-base-p16_openai_voc12.py'
# TagCLIP's images: the 1,449 of the segmentation split.
test_dataloader = dict(dataset=dict(split='', image_set_path='ImageSets/Segmentation/val.txt'))
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
