# Meta's Perception Encoder B/16 (Apache-2.0); pooled by attention. 12 blocks.
backbone = dict(encoder=dict(model='PE-Core-B-16', pretrained='meta'))
