_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/coco14_val.py',
    '../_base_/default_runtime.py',
]
# All 116,592 labels that the annotations name, as in PIAA. TagCLIP's figure is on
# its own list: the config that ends in _tagclip-labels.
model = dict(classes='coco', background='coco_background')
