_base_ = './tagclip_vit-base-p16_openai_coco14.py'
# The list published with TagCLIP, which lacks 2,844 of the 116,592 labels that
# the annotations name (small things); made by
# tools/dataset_converters/text2tags.py. The config without it counts them all,
# as PIAA does.
test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='mmpretrain.MultiLabelDataset',
        data_root='data/coco',
        ann_file='annotations/tagclip_val2014.json',
        data_prefix='val2014',
        pipeline=_base_.test_pipeline,
        test_mode=True,
    )
)
