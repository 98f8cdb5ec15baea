# TagCLIP's settings for COCO-Stuff, where things and stuff have names; used as well for data
# sets of this kind that no paper reports.
layers = 'stuff'
threshold = 0.1
parts = dict(TagCLIPHead=dict(threshold=threshold), CWR=dict(threshold=threshold))
