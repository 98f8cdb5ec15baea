"""XMP side files with keywords, for photo libraries."""

from pathlib import Path
from xml.dom import minidom
from xml.parsers.expat import ExpatError

from . import Format, Options
from .folders import Folder
from .results import Results

X = 'adobe:ns:meta/'
RDF = 'http://www.w3.org/1999/02/22-rdf-syntax-ns#'
DC = 'http://purl.org/dc/elements/1.1/'
EMPTY = f'<x:xmpmeta xmlns:x="{X}"><rdf:RDF xmlns:rdf="{RDF}"/></x:xmpmeta>'
PACKET = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n{}\n<?xpacket end="w"?>\n'


def write(results: Results, out: Path, options: Options) -> None:
    """Write ``OUT/IMAGE.xmp`` for each image with tags, such as ``photo.jpg.xmp``.

    Tags become keywords (``dc:subject``). A side file that is there keeps all that it holds: the
    tags that it lacks are added to its keywords.

    Raises:
        ValueError: A side file that is there is not XMP; the message names it.
    """
    # What is there is kept, so replacing it loses nothing.
    folder = Folder(out, Options(overwrite=True))
    for entry in results:
        if entry.record.tags:
            name = f'{entry.file_name}.xmp'
            path = out / name
            before = path.read_bytes() if path.exists() else None
            try:
                content = with_keywords(before, entry.record.tags)
            except ValueError as error:
                raise ValueError(f'{path} {error}: nothing was changed in it') from None
            folder.write(name, content)
    folder.close()


def with_keywords(content: bytes | None, keywords: tuple[str, ...]) -> bytes:
    """A side file with keywords added.

    Args:
        content: What is there; None if nothing.
        keywords: Those that it has already are not added again.

    Raises:
        ValueError: It is not XMP.
    """
    if content is not None and b'<!DOCTYPE' in content:
        raise ValueError('has a document type, which XMP has not')
    try:
        document = minidom.parseString(EMPTY if content is None else content)
    except (ExpatError, LookupError) as error:  # of an unknown encoding
        raise ValueError(f'is not XML ({error})') from None
    roots = document.getElementsByTagNameNS(RDF, 'RDF')
    if not roots:
        raise ValueError('is not XMP: it has no rdf:RDF')
    bag = _bag(document, roots[0])
    there = {_text(item) for item in bag.getElementsByTagNameNS(RDF, 'li')}
    new = [keyword for keyword in dict.fromkeys(keywords) if keyword not in there]
    if content is not None and not new:
        return content
    prefix = f'{bag.prefix}:' if bag.prefix else ''
    for keyword in new:
        item = document.createElementNS(RDF, f'{prefix}li')
        item.appendChild(document.createTextNode(keyword))
        bag.appendChild(item)
    if content is None:
        return PACKET.format(document.childNodes[0].toxml()).encode()
    return document.toxml('utf-8')


def _bag(document: minidom.Document, root: minidom.Element) -> minidom.Element:
    """The list of keywords; a new one if there is none."""
    for subject in root.getElementsByTagNameNS(DC, 'subject'):
        for kind in ('Bag', 'Seq', 'Alt'):
            for found in subject.getElementsByTagNameNS(RDF, kind):
                return found
        raise ValueError('has a dc:subject that is no list')
    rdf = root.prefix or 'rdf'
    description = document.createElementNS(RDF, f'{rdf}:Description')
    description.setAttributeNS(RDF, f'{rdf}:about', '')
    if not root.prefix:
        description.setAttribute('xmlns:rdf', RDF)
    description.setAttribute('xmlns:dc', DC)
    subject = document.createElementNS(DC, 'dc:subject')
    bag = document.createElementNS(RDF, f'{rdf}:Bag')
    root.appendChild(description)
    description.appendChild(subject)
    subject.appendChild(bag)
    return bag


def _text(element: minidom.Element) -> str:
    return ''.join(
        one.data
        for one in element.childNodes
        if one.nodeType in (one.TEXT_NODE, one.CDATA_SECTION_NODE)
    ).strip()


FORMAT = Format(
    'xmp', 'a side file with keywords per image, for photo libraries (photo.jpg.xmp)', write
)
