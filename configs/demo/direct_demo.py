_base_ = [
    '../_base_/models/direct_vit-demo.py',
    '../_base_/datasets/demo_seg_test.py',
    '../_base_/direct_seg_runtime.py',
]
