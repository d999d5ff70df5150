"""The most frequent small words of some languages: where a text has few of them, it is no prose of
that language. Ours, written down for this purpose."""

GOPHER = frozenset(("the", "be", "to", "of", "and", "that", "have", "with"))
"""The eight that Gopher's rule counts."""

_WORDS = {
    "en": (
        "the be to of and that have with a an is are was were been it in on for as at by from"
        " this which or not but they he she we you i his her their its has had will would can"
        " there what when who if one all so no"
    ),
    "fr": (
        "le la les un une des du de et à au aux en que qui dans pour pas sur par avec ne ce"
        " se il elle est sont était être ont plus son sa ses ou mais comme nous vous je on"
        " cette leur si même d l c qu n s j"
    ),
    "de": (
        "der die das den dem des ein eine einen einem einer und in zu mit von auf für ist im"
        " nicht es sich als auch an war werden aus er hat dass sie nach wird bei sind noch wie"
        " um am über so oder aber ich wir nur"
    ),
    "es": (
        "el la los las un una de del y a al en que por con no para es se lo como más su sus"
        " pero fue son está era este esta ha le o si sin sobre también me hay muy cuando yo"
    ),
    "pt": (
        "o a os as um uma de do da dos das e em no na nos nas que por com não para é se como"
        " mais seu sua mas foi são está era este esta ao à ou pelo pela também há ser muito eu"
    ),
    "it": (
        "il lo la i gli le un una di del della dei delle e a al alla in nel nella che per con"
        " non è si come più suo sua ma sono era questo questa ha da dal dalla o anche su l ci"
        " ho molto"
    ),
    "nl": (
        "de het een en van in is op dat te met voor zijn niet aan er om ook als bij maar naar"
        " uit dan die was door worden werd heeft hij ze wij ik deze dit nog over of kan geen"
    ),
    "pl": (
        "i w na z do się nie jest że to o jak po co od za przez ale dla być są był była tak"
        " już może tym tego jego jej oraz który która które lub ma go przy"
    ),
    "ru": (
        "и в во не на с со что как по но из к у за от о для это он она они мы я вы его её их"
        " был была было были же бы все так то при или если только"
    ),
    "tr": (
        "ve bir bu da de için ile o çok daha gibi ne olan olarak var ama kadar sonra en değil"
        " her ki mi ya ise ben sen biz onun diye göre"
    ),
    "id": (
        "yang dan di ini itu dengan untuk dari dalam tidak akan pada juga ke karena ada"
        " adalah oleh saya dia mereka kami sebagai bisa sudah telah atau lebih"
    ),
    "hi": ("के का की है में से को और पर ने यह वह हैं कि था थी थे एक लिए भी नहीं तो ही हो कर इस उस या"),
    "ar": (
        "في من على إلى أن هذا هذه التي الذي عن مع كان كانت لا ما هو هي أو كل بعد قد لم ثم بين و ذلك"
    ),
}

STOP_WORDS = {language: frozenset(words.split()) for language, words in _WORDS.items()}
"""By ISO 639-1 code."""
