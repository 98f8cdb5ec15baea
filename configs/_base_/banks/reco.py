# What `mmtagclip references` finds in images, after ReCo: OpenAI's ViT-B/16 chooses the images and
# the places, DINO's ViT-S/16 compares the places. Published with ViT-L/14 at 336 pixels, RN50x16
# and a DeiT-S/16 that was trained on stylised ImageNet.
model = dict(
    type='mmtagclip.ReferenceEncoder',
    encoder=dict(
        type='mmtagclip.CLIPEncoder',
        model='ViT-B-16-quickgelu',
        pretrained='openai',
        positions='bicubic_scale',
    ),
    source=dict(type='mmtagclip.TimmFeatures', model='vit_small_patch16_224.dino', pretrained=True),
)
