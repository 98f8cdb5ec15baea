_base_ = './cls-seg_demo.py'
# With the tags of the ground truth: the upper bound.
model = dict(tags='ground_truth')
