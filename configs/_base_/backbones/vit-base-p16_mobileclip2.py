# Apple's MobileCLIP2-B (Apple's licence for models, for research). 12 blocks.
backbone = dict(encoder=dict(model='MobileCLIP2-B', pretrained='dfndr2b'))
