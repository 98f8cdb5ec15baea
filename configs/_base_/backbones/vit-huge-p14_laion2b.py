# OpenCLIP's ViT-H/14, trained on LAION-2B. 32 blocks.
backbone = dict(encoder=dict(model='ViT-H-14', pretrained='laion2b_s32b_b79k'))
