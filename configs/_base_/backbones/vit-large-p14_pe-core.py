# Meta's Perception Encoder L/14 at 336 pixels (Apache-2.0); pooled by attention. 24 blocks.
backbone = dict(encoder=dict(model='PE-Core-L-14-336', pretrained='meta'))
