_base_ = [
    '../_base_/models/piaa_vit-demo.py',
    '../_base_/datasets/demo_fit.py',
    '../_base_/fit_runtime.py',
]
