# PIAA's classifier on SCLIP's patches. The class names are ours; PIAA's own lists differ in words.
# The published program drops a class that loses all its patches when the bank is cleaned:
# scorer=dict(keep_emptied=False).
model = dict(
    type='mmtagclip.TagCLIP',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        last_block=dict(type='mmtagclip.SCLIPLastBlock'),
        positions='bicubic_scale',
    ),
    head=dict(type='mmtagclip.PIAAHead', scorer=dict(type='mmtagclip.GaussianClassifier')),
    templates=['a photo of a {}'],
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
