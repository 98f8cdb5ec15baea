# LAION-2B's ViT-B/16.
_base_ = './vit-base-p16_openai.py'
backbone = dict(encoder=dict(model='ViT-B-16', pretrained='laion2b_s34b_b88k'))
