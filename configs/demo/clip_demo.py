_base_ = [
    '../_base_/models/tagclip_vit-demo.py',
    '../_base_/datasets/demo_test.py',
    '../_base_/default_runtime.py',
]
# The baseline: plain CLIP's class token.
model = dict(head=dict(_delete_=True, type='mmtagclip.ClassTokenHead'))
