_base_ = [
    '../_base_/models/tagclip_vit-base-p16_openai.py',
    '../_base_/datasets/cocostuff_val.py',
    '../_base_/default_runtime.py',
]
model = dict(
    classes='cocostuff',
    head=dict(
        dmar=dict(layers=(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10)), cwr=dict(threshold=0.1), threshold=0.1
    ),
)
