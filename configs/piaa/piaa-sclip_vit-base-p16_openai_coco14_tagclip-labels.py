_base_ = './piaa-sclip_vit-base-p16_openai_coco14.py'
# The list published with TagCLIP, made by tools/dataset_converters/text2tags.py.
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
