# ReCo (NeurIPS 2022), as the words' scores in direct segmentation: a word has the better of the
# cosine with its text and that with its reference, which `mmtagclip references` finds in unlabelled
# images. With join='product', a reference of every word and head.logit_scale=1, as published.
_base_ = './direct.py'
model = dict(
    head=dict(templates='templates_85'),  # as of the references
    cosine_processor=dict(
        type='mmtagclip.ReferenceProcessor',
        bank='data/references.safetensors',
        source=dict(
            type='mmtagclip.TimmFeatures', model='vit_small_patch16_224.dino', pretrained=True
        ),
    ),
)
