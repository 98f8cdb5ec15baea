_base_ = [
    '../_base_/models/tagclip_vit-demo.py',
    '../_base_/datasets/demo_test.py',
    '../_base_/default_runtime.py',
]
# Without the reidentification.
model = dict(head=dict(cwr=None))
