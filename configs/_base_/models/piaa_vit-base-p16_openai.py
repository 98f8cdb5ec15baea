# PIAA's classifier on OpenAI's ViT-B/16. The class names are ours; PIAA's own
# lists differ in words. The published program lets a class go that loses all
# its patches when the bank is cleaned: scorer=dict(keep_emptied=False).
model = dict(
    type='mmtagclip.TagCLIP',
    encoder=dict(type='mmtagclip.CLIPEncoder', model='ViT-B-16-quickgelu', pretrained='openai'),
    head=dict(type='mmtagclip.PIAAHead', scorer=dict(type='mmtagclip.GaussianClassifier')),
    templates=['a photo of a {}'],
    data_preprocessor=dict(type='mmtagclip.CLIPDataPreprocessor'),
)
