"""Tell from a series' name that it shows only a part of the head, or none of it.

A T1 of an orbit, a sella or a spine with contrast is no image of a glioma, and may be the only one of its day that says
that it is enhanced. A name that speaks of the brain, too, is one of a head.
"""

import re

OTHER_PART = re.compile(
    r"\b(?:(?:[clt]s? ?)?spine|spinal|[hbl]ws|lss|\w*wirbel\w*|columna|coluna|colonna|rachis|rachide|kregoslup\w*|"
    r"gerinc\w*|rygg\w*|omurga|cerv(?!e)\w*|zervik\w*|t?horac\w*|thorak\w*|tora[ck]\w*|lumb\w*|lomb\w*|sa[ck]r\w*|"
    r"medull?a|moelle|myelo\w*|cord|whole ?body|hno|carot\w*|"
    r"neck(?! coil)|hals|cuello|pescoco|collo|cou|boyun|s[ei]ll[ae]r?|turcica|pituit\w*|"
    r"h[yi]po(?:ph|f)[yi]s?\w*|[ih]pofi[sz]\w*|aivolisak\w*|orbit(?!o)\w*|oczodol\w*|augen\w*|ia[cm]s?|cpa|kh?bw|"
    r"trigemin\w*|skull ?base|base of skull|scha?e?delbasis|felsenbein\w*|rocher\w*|petrous|petrosal|mastoid\w*|"
    r"temporal bones?|innenohr|inner ear|oreill\w*|oidos?|auditiv\w*|cavum|face|facial|gesicht\w*|maxill\w*|"
    r"mandib\w*|tmj|kiefer\w*|nnh|sinus(?:es)?|paranas\w*|parotis|parotid\w*|laryn\w*|\w*pharyn\w*|tongue|zunge|"
    r"thyroid|plexus|brachial\w*|shoulder|schulter|knee|knie|abdom\w*|liver|leber|foie|higado|figado|fegato|breast|"
    r"mam(?:m\w*|a)|brust|prostat\w*|pelvi\w*|becken|chest|heart|herz|cardiac|kidney|niere|renal|rectum)\b"
)
BRAIN = re.compile(
    r"\b(?:\w*brain|ge?hirn|hirn|schadel|cerebr\w*|encef\w*|enceph\w*|cerveau|cervello|crane|cranio?|hersen\w*|hjern\w*|"
    r"hjarn\w*|aivo(?!lisak)\w*|mozg\w*|mozek|agy|beyin)\b"
)


def shows_other_part(words: str) -> bool:
    """Whether the words of a name (of ricenet.dicom.series_words.words_of) name another part, and not the brain."""
    return OTHER_PART.search(words) is not None and BRAIN.search(words) is None
