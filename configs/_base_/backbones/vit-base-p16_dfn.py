# Apple's DFN ViT-B/16 (Apple's licence for models, for research). 12 blocks.
backbone = dict(encoder=dict(model='ViT-B-16-quickgelu', pretrained='dfn2b'))
