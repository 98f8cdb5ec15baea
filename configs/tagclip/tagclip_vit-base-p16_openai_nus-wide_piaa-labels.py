_base_ = './tagclip_vit-base-p16_openai_nus-wide.py'
# PIAA's images: the 60,260 of its published list, made by
# tools/dataset_converters/text2tags.py.
test_dataloader = dict(dataset=dict(ann_file='piaa_test.json'))
