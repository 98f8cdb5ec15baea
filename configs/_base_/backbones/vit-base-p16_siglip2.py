# SigLIP 2's ViT-B/16 (Apache-2.0); pooled by attention. 12 blocks.
backbone = dict(encoder=dict(model='ViT-B-16-SigLIP2', pretrained='webli'))
