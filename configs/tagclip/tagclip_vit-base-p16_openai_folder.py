_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/folder.py',
    '../_base_/default_runtime.py',
]
# Set classes to your own: a list, or a file with one class a line.
model = dict(classes='coco', background='coco_background')
