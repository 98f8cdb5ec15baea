_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/coco17_val.py',
    '../_base_/default_runtime.py',
]
model = dict(classes='coco', background='coco_background')
