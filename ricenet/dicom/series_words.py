"""Read a series' name: does it say with or without contrast agent, and is it a T1, a reformat or a computed image?

Names are free text of eight vendors and many languages. Accents, case and separators do not count. A word that says
no (`ohne KM`, `pre gd`, `C-`) beats every word that says yes; what names the exam (`W/WO`, `vor und nach KM`) or an
operation (`post-op`) says nothing. A site adds words of its own by patterns in conf/ingest.yaml.

The parts of the body have a module of their own. It never returns or prints a name.
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from ricenet.dicom.body_parts import shows_other_part

Contrast = Literal["yes", "no", "silent"]
Kind = Literal["t1", "reformat", "derived", "other", "unsaid"]

LETTERS = str.maketrans(
    {"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "ı": "i", "æ": "ae", "ß": "ss", "–": "-", "−": "-", "đ": "d", "Đ": "D"}
)
CYRILLIC_T1 = re.compile(r"\u0422(?=[12])")  # letters that look like T and C
CYRILLIC_C = re.compile(r"[\u0421\u0441](?=\s?[+-])|(?<=[+-])[\u0421\u0441](?!\w)")
HUNGARIAN_AFTER = re.compile(r"\but[\u00e1\u00c1]n\b", re.IGNORECASE)  # without its accent it is Swedish for without
CAMEL_CASE = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])|(?<=[A-Z]{3})(?=[A-Z][a-z]{2})|(?<=[a-z])(?=T[12])")

_BRAND = (
    r"dotarem\w*|dotagraf|dotagita|dotavision|clari ?scan|omni ?scan|pro ?hance|multi ?hance|magnevist|"
    r"magnegita|magnograf|vasovist|ablavar|eovist|primovist|optimark|cyclolux|elucirem|vueway|artirem|pixxoscan|jadotar"
)
_GD = rf"gd(?:\s?dt\w+|\s?dota|bt\w+)?|gad(?!get)\w*|gbca|{_BRAND}"
_LONG_NOUN = (
    rf"kmi?|ktr|kontr(?!ol)\w*|contr(?!ol)\w*|cont|cte|con|mdc|pdc|agent|inj\w*|enh\w*|iv|tiem|контр(?!ол)\w*|ку|усил\w*|"
    rf"σκιαγρ\w*|{_GD}"
)
_ROMANCE_NOUN = rf"(?:contr(?!ol)\w*|cte|mdc|civ|pdc|iv|inj\w*|{_GD})"  # behind s, for sin, sem, senza, sans
_NOUN = rf"(?:{_LONG_NOUN}|ce|cm|mc|ku|kl|c|k|medio|mezzo|medium)"
_BEFORE = (
    r"pre|prae|pra|vor|vorher|before|prior to|avant|antes|previ[oa]|prima|przed|pred|prije|voor|fore|innan|inden|ennen|"
    r"enne|pirms|pries|inainte|elotti?|oncesi|truoc|πριν|преди|до|перед"
)
_AFTER = (
    r"post|pos|nach|after|apres|apos|despues|depois|tras|dopo|po|posle|nakon|dupa|efter|etter|jalkeen|sonrasi|"
    r"после|після|след|μετα"
)
_WITHOUT = (
    r"without|withou|wout|wo|ohne|sans|sin|sem|senza|zonder|utan|uden|uten|bez|brez|ej|fara|ilman?|nelkul|sine|khong|"
    r"без|χωρις"
)
_WITH = r"with|w|mit|m|avec|con|com|met|med|z|sa|cu|ile|με"
_AND = r"(?:\s*[/&+,]\s*|[\s_]+(?:and|then|und|u|et|puis|y|e|en|och|og|i|ja|ve|и|та|και|a(?=[\s_]+po[\s_]))[\s_]+)"
_NATIVE = (
    r"nativ\w*|natif\w*|natief|natyw\w*|nati?iv\w*|nat|plain|unenh\w*|blanco|leer|basal\w*(?! gang)|simple|"
    r"dirett[ae]|in bianco|pingsao|нативн\w*"
)
_EVENT = (
    r"op|oper\w*|surg\w*|resec\w*|resek\w*|rt|xrt|rtx|radi[oa]\w*|strahl\w*|bestrahl\w*|chemo\w*|treat\w*|therap\w*|"
    r"terap\w*|tx|biops\w*|srs|gk|gamma\w*|crani\w*|cirug\w*|cirurg\w*|chir\w*|proc\w*|filt\w*|trauma\w*|tumou?r\w*|"
    r"stroke|shunt\w*|interven\w*|avast\w*|bev\w*|tmz|temo\w*|cycl\w*|cyber\w*|litt|laser|embol\w*|steroid\w*|"
    r"fossa|fosa|supin\w*|qt|qx|trat\w*|quir\w*|quim\w*|dbs|"
    r"behand\w*|zabieg\w*|leczen\w*|lec[be]\w*|kezel\w*|mutet\w*|ameliyat\w*|tedavi\w*|leikka\w*|hoido\w*|операц\w*|лечен\w*|луч\w*|хир\w*|биопс\w*|ict[au]\w*|mort\w*|part[ua]\w*|scan\w*|sat\w*|norm\w*|puls\w*"
)
_NOT_CONTRAST = (
    r"fs|fat\w*|fett\w*|sat\w*|supp?r?\w*|gras\w*|gord\w*|graiss\w*|mt|mtc|mts|moco|motion|mov\w*|flow|fc|cs|grappa|"
    r"sense|dixon|spair|spir|angul\w*|tilt\w*|gap|arms?|navi\w*|stealth|filt\w*|norm\w*|dist\w*|sedat\w*|narkos\w*|"
    r"ana?esth\w*|head\w*|frame\w*|"
    r"rasv\w*|tluszcz\w*|zsir\w*|yag\w*|жир\w*"
)
_EDGE = r"(?<![a-z0-9])"
_END = r"(?![a-z0-9])"
_SLASHED_WITHOUT = r"w\s?[/.]\s?o(?:ut)?(?![a-z])\.?"

# On the lower-case text, before separators go: signs become words, and what names the exam goes.
SIGNS = [
    (re.compile(pattern), word)
    for pattern, word in (
        (r"(?<![a-z0-9])(?:sub|ses|run|acq|rec|dir|desc|space)-[a-z0-9]+(?=_)", " "),  # entities of BIDS
        (r"\bbrain tumou?r perf\w*\s*$", " "),  # an exam of GE, which its ProtocolName adds
        (rf"{_EDGE}(?:{_NOUN})?\s*(?:\+\s*/?\s*-|-\s*/\s*\+|±)\s*(?:{_NOUN})?{_END}", " "),
        (rf"{_EDGE}(c|gd|km)\s?[-+]\s*/\s*(?:c|gd|km)?\s?[-+]", " "),
        (rf"{_EDGE}w(?:ith)?[\s_]*/?[\s_]*(?:and|&|\+|or|-|/)?[\s_]*(?:{_SLASHED_WITHOUT}|wo(?:ut)?{_END}|"
         rf"without)(?:[\s_]*{_NOUN}{_END})*", " "),
        (rf"{_EDGE}(?:{_SLASHED_WITHOUT}|wo|without){_AND}(?:with|w/?){_END}(?:[\s_]*{_NOUN}{_END})*", " "),
        (rf"{_EDGE}(?:{_BEFORE}|{_WITHOUT}|{_NATIVE}){_AND}(?:{_AFTER}|{_WITH}|{_LONG_NOUN}){_END}"
         rf"(?:[\s_]*{_NOUN}{_END})*", " "),
        (rf"{_EDGE}(?:{_AFTER}|{_WITH}){_AND}(?:{_BEFORE}|{_WITHOUT}|{_NATIVE}){_END}(?:[\s_]*{_NOUN}{_END})*", " "),
        (rf"{_EDGE}{_SLASHED_WITHOUT}", " without "),
        (rf"{_EDGE}[su]\s?/\s?(?={_NOUN}{_END})", " without "),
        (rf"{_EDGE}n\s?/\s?c{_END}", " nc "),
        (rf"{_EDGE}[cwm]\s?/\s?(?={_NOUN}{_END})|{_EDGE}w\s?/\s*$", " with "),
        (rf"\+\s*(?:{_NOUN}|g|i\.?v\.?){_END}", " ce "),
        (r"(?<![a-z])(?:c|gd|gad|gado|km|k|ce|[ck]ontrast)\s?\+", " ce "),
        (r"t1w?\+(?=[\s_)\].,-])|\(\s*\+\s*\)|(?<=[a-z0-9])\s?\+\s*$", " t1 ce "),
        (rf"(?<=[\s_(-])(?<!post )-(?:{_NOUN}|i\.?v\.?){_END}", " unenhanced "),
        (rf"{_EDGE}(?:c|gd|gado?|km|ce)-(?=[\s_),\]])|\(\s*-\s*\)", " unenhanced "),
        (rf"{_EDGE}(?:c|k|ce|gd|gado?|km|iv|t1w?)\s?-(?=\s*$|\))", " unenhanced "),
        (r"\bpost\w*\s*(?:-|_|minus)\s*pre(?!\s?-?op)", " subtraction "),
        (r"\bi\s?\.\s?v\b\.?", " iv "),
        (r"(?:平[扫掃]|単純|单纯)\s*[+/&,・和及]?\s*(?:增[强強]|造影)", " "),
        (r"(?:增[强強]|造影|조영|증강)\s*(?:前[后後]|전후)", " "),
        (rf"{_EDGE}(?:{_BEFORE}|{_AFTER}|na)[\s_.-]{{0,2}}(?:(?:de|di|la|el|der|the)\s)?(?:{_EVENT}){_END}", " "),
    )
]  # fmt: skip
# On the words: what is written together is parted, and what says nothing of contrast goes.
WORDS = [
    (re.compile(pattern), word)
    for pattern, word in (
        (r"[\u3040-\u9fff\uac00-\ud7a3]+", r" \g<0> "),
        (rf"\b(?:{_EVENT}) (?:utan|after|elotti?|oncesi|sonrasi|jalkeen)\b", " "),
        (r"\b(ka|kontraszt\w*) utan\b", r"\1 after"),  # Hungarian puts these behind
        (r"\b(ka|kontraszt\w*) nelkul\b", r"\1 elott"),
        (r"\bi v\b", "iv"),
        (r"\bm d c\b", "mdc"),
        (r"\b(?:mr\d?)?c(?:e)?t1(?![0-9])", "ce t1"),
        (r"\b(?:mr\d?|e?[23]d|ax\w{0,3}|sag\w{0,6}|cor\w{0,5}|tra\w{0,9}|s|w|fs|vol|iso|post|pre|gd|km)(?=t[12](?![0-9]))",
         r"\g<0> "),
        (r"\bt1(?:w?i?|weighted)(?=(?:with|wo\b|post|pos|pre|g|k|c|n|m|f|s|a|i))", "t1 "),
        (r"\b(mp ?rage|mpr|bravo|i?r?f?spgr|vibe|space|cube|[tf]?se|tfe|ffe|flash|tfl|vista|iso|[23]d|ax|axial|tra|sag|"
         r"cor|fs)(?=(?:post|pos|pre|gd|gad|km|[ck]ontrast|nativ|ohne|sans)\w*)", r"\1 "),
        (rf"\b(?:{_WITHOUT}|no|non|not)\s(?:{_NOT_CONTRAST})\b", " "),
    )
]  # fmt: skip

SAYS_NO = re.compile(
    rf"\b(?:{_WITHOUT}|{_BEFORE}|{_NATIVE})\b"
    rf"|\b(?:no|non|not|nao|kein\w*|zero|geen|ingen|inget|nie|yok|minus|free of) (?:iv )?{_NOUN}\b"
    rf"|\b(?:o|v|for|u) (?:iv )?(?:km|kontr(?!ol)\w*|gd|gad\w*|k)\b"
    rf"|\b{_NOUN} (?:yok|(?:non|no|niet|nej|нет)$)|\bw o (?:{_NOUN})\b|\bw o$|\bs {_ROMANCE_NOUN}\b"
    rf"|\b(?:no|non|wo|ohne|without|sans|sin|sem|senza|zonder|utan|uden|uten|bez)(?:{_LONG_NOUN})\b"
    rf"|\bokm\b|\bvkm\b|\bss (?:gad\w*|inj\w*|iv)\b|\bnce?\b|\bncon\w*"
    rf"|\bpr(?:e|ae|a)(?:{_LONG_NOUN}|c|dose|bolus)\b"
    rf"|\b{_NOUN} ?(?:neg\w*|none|nein|keine?s?|nil|free|frei|fri|vrij|off)\b|\bs(?:mdc|km)\b"
    r"|\b(?:kontrast|ilac)\w*s[iu]z\w*|\b[ck]ontras\w*(?:frei|los|loos|fri|less|mentes|itt?a)\b"
    rf"|\b(?:do|до|перед) (?:k[ul]|kontr\w*|{_LONG_NOUN}|введ\w*|в в)\b|\b(?:не|без|пре|до)контр|\bbe kontr"
    r"|平[扫掃]|単純|单纯|[非未无無不没](?:增|造影|强化)|(?:造影剤?|增[强強]|强化|注射|gd) ?(?:前|なし|無)"
    r"|[비무](?:조영|증강)|(?:조영제?|증강|주입) ?(?:전|안|없)"
)
SAYS_YES = re.compile(
    r"\b(?:post|pos)\d*\b|\b(?:nach|nachher|after|apres|apos|despues|depois|dopo|efter|etter|sonrasi|nakon|dupa)\b"
    rf"|\b(?:po|na|tras|n|iv|post|pos|posle|s|sa|с|з|με|μετα) (?:iv )?(?:{_NOUN})\b"
    rf"|\b(?:{_WITH}) (?:iv )?{_NOUN}\b|\bmed k\b"
    rf"|\bpost?(?:{_LONG_NOUN}|c|dose|bolus)\b"
    rf"|\b(?:{_GD})\d*\b|\b(?:[mnp]|iv)?kmi?\d?\b|\b(?:contrast|kontras)\w*"
    r"|\bce\b|\bcemr\w*|\bce(?=mprage|mr|3d)|\b(?:t1w?i?|mprage|mp rage|bravo|f?spgr|space|cube|vibe|tfe) "
    r"c(?:\b(?! ?sp)|(?=3d))"
    r"|(?<!\d )\bcm\b|\bc?mdc\b|\bciv\b|\binj\b|\binj[ei]\w*|\binie\w*|\biniett\w*|\benh\b|\benhanc\w*|\bilacli\b"
    r"|\b(?:mit|avec|with|con|com|met|med)$|\bw(?:con|gad\w*|gd|km)\b|\b(?:single|double|triple|half|full) dose\b"
    r"|\bcte\b|\bt1w?\b.* iv$|\bteho(?:st\w*)?\b|\bvarjoain\w*|\bpdc\b|\bka (?:after|val)\b|\b(?:sau|co) tiem\b"
    r"|\bzengqiang\b"
    r"|增[强強]|造影|强化|조영|증강|контр(?!ол)|\bку\b|\bусил|σκιαγρ"
)
DERIVED = re.compile(
    r"\b(?:subs?(?! ?\d)|sub[st]\w*|soustr\w*|sustr\w*|resta|sottr\w*|odejm\w*|cikarma|maps?|mapp?ing|mapa|molli|"
    r"shmolli|e?adc|fa(?! ?\d)|trace\w*|r?cb[vf]|mtt|ttp|tmax|ktrans|kep|iauc|m(?:in)?ips?|vrt?|projections?|render\w*|"
    r"fused?|fusion|overlay|coreg\w*|reg to|regist\w*|resampl\w*|resli\w*|seg|segm\w*|screen ?(?:save|shot|cap)\w*|"
    r"snapshot|capture|surg ?nav\w*|pjn|processed images?|synt\w*|symri|magic|mrf|fingerprint\w*|inv[12]|"
    r"t1 images? mp2rage|mp2rage.* t1 images?|opp\w*|out of phase|out ?phase|phase map|phase image)\b"
    r"|\bfat$|^fat\b(?! ?sat| ?supp?| fs)|\b(?:dixon|lava|flex)\b.*\bf$"
)
OTHER = re.compile(
    r"\b(?:t2\w*|tirm|stir|dwi\w*|dti\w*|diff\w*|difu\w*|swi(?!ft)\w*|swan\w*|hemo\w*|perf\w*|dsc|dce|p?c?asl|"
    r"tof\w*|mr[av]|angio\w*|venogr\w*|phlebo\w*|care ?bolus|smart ?prep|epi?2d|epi|bold|fmri|pd|pdw|t1 ?rho|vfa|ciss|"
    r"fiesta|dess|b ?ffe|b?ssfp|btfe|balanced|truefisp|trufi|tricks|inhance|twist\w*|dyn\w*|grasp|disco|"
    r"permeab\w*|pwi|qsm|ph(?:ase)? ?\d+ (?:of )?\d+|spin ?lock|quant\w*|q t1|relax\w*|qalas|mpm|"
    r"mpgr|field ?map|b[01]|phase contrast|loc|locali\w*|scouts?|survey|pilot|plan ?scan|3 ?plane|topogram|aahead\w*|"
    r"smart ?(?:brain|plan)|calib\w*|asset|ref ?scan|spectro\w*|mrs|svs|csi|press|steam|test|phantom)\b|^fl3d ce\b"
)
FLAIR = re.compile(r"\bflair\w*|\bdark fluid\b")
REFORMAT = re.compile(
    r"\b(?:reform\w*|ref(?:or)?mt\w*|rfmts?|rformat\w*|mpvr|mprs|curved|rekon?\w*|reconst\w*|ricostr\w*|"
    r"ref (?:ax|cor|sag|obl|tra)\w*|thick slab|(?<!air )(?<!dl )(?<!deep )recons?(?! ?dl)|recos?)\b|重建|再構成|재구성"
)
MPR = re.compile(r"\bmpr\b")
MPR_SEQUENCE = re.compile(r"\bt1w?i? mpr\b(?! (?:range|thick|thin|slab))")  # Siemens: MP-RAGE
T1 = re.compile(
    r"\bt1(?:wi?|s|weighted)?\b|\b(?:mp ?|\w*mp)?rage\b|\bmp2rage uni\w*|\bbravo\b|\b(?:ir ?)?(?:ef|f)?sp?gr(?:e3d)?\b|"
    r"\befgre\w*|\b\w*vibe\b|\btfl\w*|\btfe\b|\b3d ffe\b|\bflash\w*|\bfl[23]d\w*|\be? ?thrive\b|\blava\b|\bgeir\b"
)
SEQUENCE_T1 = re.compile(r"\btfl\w*|\bt1 ?(?:tfe|ffe)\b|\bbravo\b|\bmp ?rage\b")


@dataclass(frozen=True)
class NameReading:
    """What a series' name says.

    Attributes:
        contrast: whether an agent was in the patient; silent where the name does not say.
        kind: t1; reformat (a T1 cut anew from another series); derived (subtraction, map, projection, fat image);
            other (another weighting, a localizer, another body part); unsaid.
    """

    contrast: Contrast
    kind: Kind

    @property
    def is_post_contrast_t1(self) -> bool:
        """Whether the name alone makes it one."""
        return self.kind == "t1" and self.contrast == "yes"


@lru_cache(maxsize=4096)
def read_name(*texts: str, sequence: str = "") -> NameReading:
    """Read the texts that name one series.

    Args:
        texts: SeriesDescription and, where it is the series' own, ProtocolName.
        sequence: SequenceName, which counts for the kind where `texts` do not say.
    """
    readings = [_read(text) for text in texts if text.strip()]
    contrasts = {contrast for contrast, _ in readings}
    contrast: Contrast = "no" if "no" in contrasts else "yes" if "yes" in contrasts else "silent"
    kinds = {kind for _, kind in readings}
    if not kinds - {"unsaid"} and SEQUENCE_T1.search(words_of(sequence)):
        return NameReading(contrast, "t1")
    order: tuple[Kind, ...] = ("derived", "other", "reformat", "t1")
    return NameReading(contrast, next((kind for kind in order if kind in kinds), "unsaid"))


def _read(text: str) -> tuple[Contrast, Kind]:
    words = words_of(text)
    if SAYS_NO.search(words):
        contrast: Contrast = "no"
    else:
        contrast = "yes" if SAYS_YES.search(words) else "silent"
    return contrast, _kind(words)


def names_t1(text: str) -> bool:
    """Whether a name has a word of a T1 sequence, whatever else it has."""
    return _has_t1(words_of(text))


def _has_t1(words: str) -> bool:
    return T1.search(words) is not None or MPR_SEQUENCE.search(words) is not None


def _kind(words: str) -> Kind:
    if DERIVED.search(words):
        return "derived"
    if OTHER.search(words) or shows_other_part(words):
        return "other"
    if FLAIR.search(words) and not re.search(r"\bt1", words):
        return "other"
    cut_anew = MPR.search(words) and (not MPR_SEQUENCE.search(words) or re.search(r"\bmp ?rage\b|\bobl", words))
    if not _has_t1(words):
        return "unsaid"
    return "reformat" if REFORMAT.search(words) or cut_anew else "t1"


def words_of(text: str) -> str:
    """The words of a name: lower case, without accents and separators, signs of contrast in words."""
    signed = HUNGARIAN_AFTER.sub("after", unicodedata.normalize("NFC", text).translate(LETTERS))
    parted = CAMEL_CASE.sub(" ", CYRILLIC_T1.sub("T", CYRILLIC_C.sub("C", signed)))
    letters = unicodedata.normalize("NFKD", parted)
    bare = "".join(letter for letter in letters if not unicodedata.combining(letter))
    plain = unicodedata.normalize("NFC", bare).lower()  # Hangul, which NFKD takes to pieces
    plain = f" {plain} "
    for pattern, word in SIGNS:
        plain = pattern.sub(word, plain)
    words = " ".join(re.sub(r"[\W_]+", " ", plain).split())
    for pattern, word in WORDS:
        words = pattern.sub(word, words)
    return " ".join(words.split())


NO_AGENT = {
    "n", "no", "na", "none", "nil", "nihil", "null", "nein", "kein", "keine", "keiner", "keins", "aucun", "ninguno",
    "nenhum", "nessuno", "geen", "ingen", "inget", "brak", "yok", "unknown", "unk", "unbekannt", "inconnu", "undefined",
    "not", "false", "nicht", "x", "tbd",
}  # fmt: skip
NO_AMOUNT = re.compile(r"(?<![\d.,])0+(?:[.,]0+)?\s*(?:ml|cc|mmol|mg|l)\b")


def names_agent(text: str) -> bool:
    """Whether the text of ContrastBolusAgent names one: not `NONE`, `N/A`, `-`, `keine`, `0 ml`, `UNKNOWN`."""
    if not re.search(r"[^\W\d_]", text):
        return re.search(r"[1-9]", text) is not None
    words = words_of(text)
    if not words or words.split()[0] in NO_AGENT or NO_AMOUNT.search(text.lower()):
        return False
    return SAYS_NO.search(words) is None
