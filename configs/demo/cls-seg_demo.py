_base_ = [
    '../_base_/models/cls-seg_vit-demo.py',
    '../_base_/datasets/demo_seg_test.py',
    '../_base_/seg_runtime.py',
]
