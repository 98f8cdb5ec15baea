_base_ = [
    '../_base_/models/naclip_vit-base-p16_openai.py',
    '../_base_/datasets/voc20_direct.py',
    '../_base_/direct_seg_runtime.py',
]
model = dict(
    head=dict(classes='seg_voc'),
    # The image in one piece; what the patches do not cover is cut off.
    windows=dict(_delete_=True, type='mmtagclip.WholeImage', patch_size=16, cut=True),
)
