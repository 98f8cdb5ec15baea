# Apple's MobileCLIP2-S0 (Apple's licence for models, for research): convolutional, so DMAR is out.
backbone = dict(
    encoder=dict(model='MobileCLIP2-S0', pretrained='dfndr2b'),
    TagCLIPHead=dict(dmar=None),
)
