# ActiveSAM (2026): a look at a lower resolution chooses the classes. Its hypernyms are WordNet's;
# mmtagclip.HypernymContext takes them from a file.
_base_ = './concepts.py'
model = dict(
    confidence=0.3,
    preview=dict(type='mmtagclip.Preview', side=672, share=0.2, most=40),
    context=[dict(type='mmtagclip.NeighbourContext', count=2)],
)
