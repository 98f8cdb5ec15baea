# SigLIP 2's SO400M/16 at 384 pixels (Apache-2.0); pooled by attention. 27 blocks.
backbone = dict(encoder=dict(model='ViT-SO400M-16-SigLIP2-384', pretrained='webli'))
