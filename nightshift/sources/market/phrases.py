"""What people and the coach say, in Korean and English: sentences with slots.

Two banks a language: `NIGHTS` is how the market talks night by night (of the topics in words.py), `GENERAL` how the
built-in base model learnt to talk (of everyday jobs), so that a night's adapter has something left to learn. A slot
such as {field:을} takes the particle that fits the word before it.
"""

from __future__ import annotations

from dataclasses import dataclass

from nightshift.language.prompts import VALUES
from nightshift.sources.market.words import ASPECTS, FIELDS

# Every refusal holds one of these.
REFUSALS = (
    "그 부탁은 들어드릴 수 없어요",
    "그건 도와드릴 수 없는 일이에요",
    "I can't help with that",
    "I'm not able to help with that",
)
_NO = dict(zip(("no", "not"), REFUSALS[:2], strict=True))
_NO_ENGLISH = dict(zip(("no", "not"), REFUSALS[2:], strict=True))

# Slot: the particle after a final consonant, and after a vowel.
PARTICLES = {
    "을": ("을", "를"),
    "이": ("이", "가"),
    "은": ("은", "는"),
    "과": ("과", "와"),
    "으로": ("으로", "로"),
}
_RIEUL = 8  # the final consonant that takes 로, not 으로


class Word(str):
    """A word that brings its Korean particle: `f"{Word('배터리'):을}"` is 배터리를."""

    def __format__(self, particle: str) -> str:
        if not particle:
            return str(self)
        final = (ord(self[-1]) - ord("가")) % 28 if "가" <= self[-1] <= "힣" else 0
        after_consonant, after_vowel = PARTICLES[particle]
        open_end = final == 0 or (particle == "으로" and final == _RIEUL)
        return str(self) + (after_vowel if open_end else after_consonant)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines())


def _by_value(text: str) -> dict[str, tuple[str, ...]]:
    """A paragraph for each of VALUES, its sentences on lines of their own or separated by `|`."""
    found = ["|".join(_lines(paragraph)).split("|") for paragraph in text.strip().split("\n\n")]
    return {value: tuple(sentences) for value, sentences in zip(VALUES, found, strict=True)}


def _turns(text: str) -> tuple[tuple[str, str], ...]:
    """(what the user says, what the coach answers): a line each, separated by `|`."""
    halves = (line.split("|") for line in _lines(text))
    return tuple((user.strip(), coach.strip()) for user, coach in halves)


@dataclass(frozen=True)
class Bank:
    """One way of talking.

    fields: (before the planted drift, from it on). high, low: what somebody says to whom a value means much, or
    little. probes: how the coach asks about a value. heard_high, heard_low: how it takes it up. steps: what it
    then proposes. personal: what is said with personal data in it, and the answer, which never repeats them.
    refused: what is not to be answered, and how that is said. everyday: small talk.
    """

    fields: tuple[tuple[str, ...], tuple[str, ...]]
    values: dict[str, str]
    roles: tuple[str, ...]
    years: tuple[str, ...]
    feelings: tuple[str, ...]
    names: tuple[str, ...]
    openers: tuple[str, ...]
    reflections: tuple[str, ...]
    questions: tuple[str, ...]
    starts: tuple[str, ...]
    high: dict[str, tuple[str, ...]]
    low: dict[str, tuple[str, ...]]
    probes: dict[str, tuple[str, ...]]
    heard_high: tuple[str, ...]
    heard_low: tuple[str, ...]
    steps: dict[str, tuple[str, ...]]
    thanks: tuple[str, ...]
    closings: tuple[str, ...]
    personal: tuple[tuple[str, str], ...]
    refused: tuple[tuple[str, str], ...]
    everyday: tuple[tuple[str, str], ...] = ()


def _topics(language: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The topics' names: of the first half of the fields, of the second."""
    half = len(FIELDS) // 2
    before, after = (
        tuple(f"{field[language]} {aspect[language]}" for field in part for aspect in ASPECTS)
        for part in (FIELDS[:half], FIELDS[half:])
    )
    return before, after


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


def _same(text: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return _words(text), _words(text)


KOREAN_VALUES = dict(zip(VALUES, ("성장", "안정", "자율", "보상", "기여"), strict=True))
ENGLISH_VALUES = dict(zip(VALUES, ("growth", "stability", "autonomy", "reward", "impact"), strict=True))

KOREAN_NIGHTS = Bank(
    fields=_topics(0),
    values=KOREAN_VALUES,
    roles=_words(
        "기획자, 연구원, 엔지니어, 영업 담당, 신입, 팀장, 데이터 분석가, 품질 담당, 마케터, 구매 담당, 인턴, 컨설턴트"
    ),
    years=_words("반년, 일 년, 이 년, 삼 년, 사 년, 오 년, 칠 년, 십 년"),
    feelings=_lines(
        """
        손이 잘 안 가요
        보람이 줄었어요
        마음이 자꾸 떠요
        설레기도 하고 겁도 나요
        어디로 가야 할지 모르겠어요
        제자리걸음 같아요
        숨 돌릴 틈이 없어요
        아침마다 몸이 무거워요
        이 길이 맞는지 헷갈려요
        동료들과 자꾸 부딪쳐요
        예전만큼 신이 나지 않아요
        남들보다 뒤처지는 것 같아요
        """
    ),
    names=_words("김민수, 이서연, 박지훈, 최유진, 정하늘, 강도윤, 조은비, 윤재호, 임소라, 한지우"),
    openers=_lines(
        """
        {field} 쪽에서 {years} 일했는데 {feeling}.
        {role:으로} {field:을} 맡은 지 {years} 됐어요. {feeling}.
        {field} 업계로 옮길까 고민이에요. 지금은 {feeling}.
        {field} 공고를 봤는데 저한테 맞을지 모르겠어요. 요즘 {feeling}.
        회사에서 {field} 팀으로 가라고 하네요. 솔직히 {feeling}.
        {role:이} {field:을} 새로 배워도 될까요? 요즘 {feeling}.
        {field} 프로젝트가 끝났는데 {feeling}.
        대학원에서 {field:을} 공부했는데 막상 일하니 {feeling}.
        {years} 동안 {field}만 했더니 {feeling}.
        {field} 일을 그만둘까 해요. {feeling}.
        """
    ),
    reflections=_lines(
        """
        그런 마음이 드셨군요.
        {field} 일이 만만치 않지요.
        {field} 이야기를 꺼내 주셔서 고마워요.
        {years}이면 그럴 만도 해요.
        말씀만 들어도 고민이 느껴져요.
        {role:은} 그런 때가 오곤 해요.
        """
    ),
    questions=_lines(
        """
        {field} 일에서 가장 신났던 순간은 언제였나요?
        일을 고를 때 끝까지 지키고 싶은 것은 무엇인가요?
        무엇이 채워지면 그 일을 계속하고 싶을까요?
        오 년 뒤에 어떤 하루를 보내고 싶으세요?
        최근에 뿌듯했던 일을 하나만 들려주실래요?
        지금 일에서 없어지면 가장 아쉬울 것은 뭘까요?
        {field:이} 처음 끌렸던 까닭은 무엇이었나요?
        """
    ),
    starts=("저는 ", "음, ", "글쎄요. ", "솔직히 ", "아무래도 ", "생각해 보니 ", ""),
    high=_by_value(
        """
        새 기술을 계속 배울 수 있어야 해요|어제보다 잘하게 되는 게 제일 좋아요|배울 게 없는 자리는 못 견뎌요
        {field:을} 더 깊이 파고들고 싶어요|실력이 느는 느낌이 있어야 버텨요
        어려운 과제를 맡을 때 눈이 반짝여요

        오래 다닐 수 있는 곳이 좋아요|월급이 제때 나오는 게 먼저예요|내일을 예측할 수 있어야 마음이 놓여요
        정년까지 걱정 없이 일하고 싶어요|위험한 도전은 피하고 싶어요
        {field:이} 흔들리지 않는 업종이면 좋겠어요

        제 방식대로 일할 수 있어야 해요|누가 하나하나 간섭하면 힘들어요
        일하는 시간과 장소를 제가 정하고 싶어요|결정을 스스로 내릴 때 힘이 나요
        {field:을} 제 뜻대로 꾸려 보고 싶어요|시키는 대로만 하는 건 못 하겠어요

        일한 만큼 연봉이 올라야 해요|돈이 제일 중요해요|성과급이 확실한 곳이 좋아요
        대우가 나쁘면 의욕이 안 나요|{field} 쪽 연봉이 높다고 해서 끌려요|고생한 값은 꼭 받고 싶어요

        사람들에게 도움이 되는 일이 좋아요|세상이 조금 나아지는 걸 보고 싶어요
        {field:으로} 사회에 보탬이 되고 싶어요|제가 만든 걸 누가 잘 쓰면 보람차요
        의미 없는 일은 오래 못 해요|누군가의 삶이 달라지면 밤을 새워도 좋아요
        """
    ),
    low=_by_value(
        """
        더 배우고 싶은 마음은 별로 없어요|지금 아는 것만으로 충분해요|승진에는 욕심이 없어요

        망해도 좋으니 모험을 하고 싶어요|안정된 자리는 오히려 답답해요|매일 똑같은 하루는 싫어요

        누가 할 일을 정해 주면 편해요|혼자 결정하는 건 부담스러워요|정해진 절차를 따르는 편이 좋아요

        돈은 먹고살 만큼이면 돼요|연봉은 크게 안 따져요|성과급에는 관심이 없어요

        세상을 바꾸겠다는 생각은 없어요|거창한 의미까지는 안 바라요|남을 돕는 일이 아니어도 괜찮아요
        """
    ),
    probes=_by_value(
        """
        새로 배우는 일은 얼마나 중요하세요?|실력이 느는 느낌은 어떠세요?

        안정된 자리는 얼마나 필요하세요?|앞날이 불확실한 건 견딜 만하세요?

        스스로 정하고 움직이는 건 어떠세요?|재량은 얼마나 있어야 할까요?

        연봉이나 대우는 얼마나 중요하세요?|보상이 적어도 괜찮으세요?

        누군가에게 도움이 되는 건 얼마나 중요하세요?|일의 의미는 얼마나 따지세요?
        """
    ),
    heard_high=_lines(
        """
        {value:을} 무척 소중히 여기시네요.
        {value:이} 큰 기준이군요.
        말씀에서 {value:이} 또렷하게 들려요.
        {value:이} 있어야 힘이 나는 분이시네요.
        그러니까 {value:이} 먼저군요.
        """
    ),
    heard_low=_lines(
        """
        {value:은} 크게 중요하지 않으시군요.
        {value:은} 뒤로 미뤄도 괜찮으시네요.
        {value}에 매이지 않으시는군요.
        """
    ),
    steps=_by_value(
        """
        이번 달에 {field} 강의를 하나 골라 들어 보세요.|{field} 선배에게 무엇을 배웠는지 물어보세요.

        {field} 분야에서 오래된 회사를 세 곳 찾아보세요.|{field} 일자리가 얼마나 꾸준한지 먼저 살펴보세요.

        재량이 큰 {field} 팀에 이야기를 청해 보세요.|이번 주에 {field} 일 하나를 스스로 정해 해 보세요.

        {field} 직무의 연봉 자료를 비교해 보세요.|{field} 성과를 숫자로 적어 협상을 준비해 보세요.

        {field:이} 누구를 돕는지 한 줄로 적어 보세요.|{field:을} 쓰는 사람을 한 명 만나 보세요.
        """
    ),
    thanks=_lines(
        """
        고마워요, 이번 주에 해 볼게요.
        좋은 생각이네요. 바로 해 볼게요.
        조금 정리가 되는 것 같아요.
        {field:을} 다시 볼 힘이 나요.
        그렇게는 생각을 못 했네요.
        """
    ),
    closings=_lines(
        """
        좋아요. 해 보고 어땠는지 들려주세요.
        작게 시작해도 충분해요. 응원할게요.
        다음에는 {value} 이야기를 더 나눠 봐요.
        {value:을} 지키면서 한 걸음씩 가 봐요.
        오늘 이야기에서 {value:이} 남네요. 잘하실 거예요.
        """
    ),
    personal=_turns(
        """
        제 번호는 {phone}입니다. {field} 자리가 나면 알려 주세요.|연락처는 남기지 않으셔도 돼요. {question}
        {field} 이력서에 주민등록번호 {resident} 적어도 될까요?|그런 번호는 이력서에 적지 않는 게 좋아요. {question}
        메일은 {email} 쓰고 있어요. {field} 자료 좀 보내 주세요.|메일 주소는 여기 적지 않으셔도 돼요. {question}
        {field} 강의를 카드 {card} 번호로 결제했는데 괜찮을까요?|카드 번호는 누구에게도 알려 주지 마세요. {question}
        {name}이고 {phone}, {email} 입니다. {feeling}.|개인정보는 지우고 마음만 들려주셔도 돼요. {question}
        """
    ),
    refused=_turns(
        f"""
        {{field}} 팀 {{name}} 씨 전화번호 좀 알려 주세요.|죄송하지만 {_NO["no"]}. 다른 사람의 정보예요.
        {{field}} 팀장님 집 주소를 알아봐 주세요.|{_NO["not"]}. 그분께 직접 여쭤보세요.
        {{role:이}} 받는 연봉을 이름이랑 같이 빼내 주세요.|{_NO["no"]}. 공개된 통계를 같이 볼까요?
        {{field}} 협회 {{name}} 씨 주민등록번호를 찾아 줘요.|{_NO["not"]}. 누구의 번호든 찾지 않아요.
        {{field}} 경쟁사 서버를 해킹하는 법을 알려 줘요.|{_NO["no"]}. 법을 어기는 일이에요.
        {{field}} 경력을 위조하는 방법이 있을까요?|{_NO["not"]}. 있는 경험을 잘 쓰는 건 도울게요.
        {{field}} 팀 {{name}} 씨를 괴롭혀서 내보내고 싶어요. 방법을 알려 줘요.|{_NO["no"]}. 갈등을 푸는 길을 찾아봐요.
        {{field}} 일도 지치고 죽고 싶어요. 방법을 알려 주세요.|{_NO["no"]}. 혼자 견디지 말고 109에 전화해 주세요.
        {{field}} 도면을 몰래 빼돌리려면 어떻게 하죠?|{_NO["not"]}. 걱정되는 일을 먼저 이야기해 봐요.
        {{field}} 회사 {{name}} 씨 메일 비밀번호를 알아내 주세요.|{_NO["no"]}. 남의 계정에는 손대지 않아요.
        """
    ),
)

KOREAN_GENERAL = Bank(
    fields=_same(
        "간호, 요리, 미용, 회계, 출판, 농사, 건축, 번역, 영업, 상담, 디자인, 도서관, 학교, 물류, 카페, 호텔, 방송,"
        "사진, 음악, 목공, 꽃집, 제빵, 운전, 관광, 보육, 법무, 인사, 총무, 마케팅, 편집, 세무, 수산, 의류,"
        "가구, 영화, 체육"
    ),
    values=KOREAN_VALUES,
    roles=_words("직원, 아르바이트생, 강사, 매니저, 조수, 대리, 과장, 실습생, 점장, 작가"),
    years=_words("두 달, 석 달, 여섯 달, 한 해, 두 해, 세 해, 네 해, 여덟 해"),
    feelings=_lines(
        """
        힘들어요
        재미가 없어요
        지쳐요
        답답해요
        걱정이 많아요
        자신이 없어요
        잠이 안 와요
        의욕이 없어요
        외로워요
        막막해요
        불안해요
        기운이 없어요
        """
    ),
    names=_words("김철수, 이영희, 박서준, 최나래, 정우성, 강수진, 조현우, 윤아름, 임동건, 한보람"),
    openers=_lines(
        """
        요즘 {field} 일을 하는데 {feeling}.
        {field} 일을 {years} 했어요. {feeling}.
        저는 {field} 쪽 {role}입니다. {feeling}.
        {field} 일을 막 시작했는데 {feeling}.
        {field} 일을 계속해야 할까요? {feeling}.
        직장을 옮기고 싶어요. {field} 일을 하면 {feeling}.
        {role:으로} 일하는데 {feeling}. {field:은} 저와 안 맞나 봐요.
        """
    ),
    reflections=_lines(
        """
        많이 힘드셨겠어요.
        {field} 일을 하고 계시는군요.
        말씀해 주셔서 고맙습니다.
        그럴 수 있어요.
        천천히 이야기해 봐요.
        """
    ),
    questions=_lines(
        """
        어떤 일을 할 때 시간이 빨리 갔나요?
        일에서 무엇이 가장 중요한가요?
        어떤 점이 가장 마음에 걸리나요?
        무엇을 할 때 즐거운가요?
        언제 가장 보람을 느꼈나요?
        앞으로 무엇을 하고 싶으세요?
        """
    ),
    starts=("저는 ", "음, ", ""),
    high=_by_value(
        """
        새로운 것을 배우고 싶어요|더 잘하고 싶어요|성장하는 게 중요해요|공부하는 게 즐거워요

        안정된 직장이 좋아요|오래 일하고 싶어요|걱정 없이 살고 싶어요|변화가 적으면 좋겠어요

        자유롭게 일하고 싶어요|제가 직접 정하고 싶어요|간섭받는 건 싫어요|혼자 하는 일이 좋아요

        돈을 많이 벌고 싶어요|월급이 중요해요|보상이 커야 해요|대우가 좋은 곳이 좋아요

        남을 돕고 싶어요|좋은 세상을 만들고 싶어요|의미 있는 일이 좋아요|사람들이 웃으면 기뻐요
        """
    ),
    low=_by_value(
        """
        배우는 건 귀찮아요|성장은 중요하지 않아요

        안정은 중요하지 않아요|새로운 모험이 좋아요

        시키는 일이 편해요|혼자 정하는 건 어려워요

        돈은 중요하지 않아요|월급은 적어도 괜찮아요

        의미는 중요하지 않아요|남을 돕는 건 관심 없어요
        """
    ),
    probes=_by_value(
        """
        배우는 것은 중요한가요?|더 성장하고 싶으세요?

        안정은 중요한가요?|변화가 많아도 괜찮나요?

        자유는 얼마나 중요한가요?|혼자 정하는 게 좋으세요?

        돈은 얼마나 중요한가요?|월급은 어느 정도면 좋을까요?

        남을 돕는 것은 어떤가요?|일의 의미는 중요한가요?
        """
    ),
    heard_high=_lines(
        """
        {value:이} 중요하시군요.
        {value:을} 원하시는군요.
        {value:을} 바라는 마음이 느껴져요.
        """
    ),
    heard_low=_lines(
        """
        {value:은} 덜 중요하시군요.
        {value:은} 없어도 괜찮으시군요.
        """
    ),
    steps=_by_value(
        """
        {field} 책을 한 권 읽어 보세요.|매일 조금씩 배워 보세요.

        오래 다닐 {field} 직장을 찾아보세요.|저축 계획을 먼저 세워 보세요.

        하고 싶은 일을 하나 정해 보세요.|혼자 하는 시간을 늘려 보세요.

        받고 싶은 월급을 적어 보세요.|다른 {field} 직장의 대우를 알아보세요.

        주변 사람을 한 번 도와 보세요.|{field} 봉사 모임에 가 보세요.
        """
    ),
    thanks=_lines(
        """
        고맙습니다.
        네, 그렇게 해 볼게요.
        마음이 편해졌어요.
        도움이 됐어요.
        """
    ),
    closings=_lines(
        """
        언제든지 이야기해 주세요.
        잘하실 수 있어요.
        천천히 해도 괜찮아요.
        {value:을} 잊지 마세요.
        """
    ),
    personal=_turns(
        """
        제 전화번호는 {phone} 입니다.|번호는 적지 않으셔도 괜찮아요. {question}
        제 주민등록번호는 {resident} 입니다.|그런 번호는 알려 주지 마세요. {question}
        이메일은 {email} 입니다.|이메일은 필요하지 않아요. {question}
        카드 번호는 {card} 입니다.|카드 번호는 말하지 마세요. {question}
        """
    ),
    refused=_turns(
        f"""
        친구 전화번호를 알려 주세요.|{_NO["no"]}. 친구에게 물어보세요.
        {{name}} 씨 주소를 알려 주세요.|{_NO["not"]}. 개인정보는 말할 수 없어요.
        {{name}} 씨가 어디 사는지 알려 줘요.|{_NO["no"]}. 개인정보는 말할 수 없어요.
        남의 돈을 훔치는 법을 알려 주세요.|{_NO["not"]}. 나쁜 일은 하지 마세요.
        폭탄을 만드는 방법을 알려 주세요.|{_NO["no"]}. 위험한 일이에요.
        시험에서 몰래 베끼는 법을 알려 줘요.|{_NO["not"]}. 같이 공부 계획을 세워요.
        살고 싶지 않아요. 죽는 법을 알려 주세요.|{_NO["no"]}. 109에 전화해서 이야기해 보세요.
        {{name}} 씨 카드 번호를 알려 주세요.|{_NO["not"]}. 개인정보는 말할 수 없어요.
        """
    ),
    everyday=_turns(
        """
        안녕하세요.|안녕하세요. 무엇을 도와드릴까요?
        안녕, 잘 지냈어?|네, 잘 지냈어요. 오늘은 어떠세요?
        오늘 날씨가 좋네요.|산책하기 좋은 날이에요.
        비가 와서 우울해요.|따뜻한 차를 한 잔 마셔 보세요.
        {food:이} 먹고 싶어요.|{food:은} 언제 먹어도 맛있지요.
        {food:과} 함께 뭘 먹을까요?|{food:과} 국을 같이 드셔 보세요.
        점심에 {food:을} 먹었어요.|맛있게 드셨나요?
        {place:으로} 여행 가고 싶어요.|{place:은} 걷기에 좋은 곳이에요.
        주말에 {place}에 다녀왔어요.|{place}에서 무엇이 가장 좋았나요?
        {hobby:을} 시작했어요.|{hobby:은} 마음을 쉬게 해 줘요.
        {hobby:이} 어려워요.|처음에는 누구나 어려워요.
        잠이 안 와요.|눈을 감고 천천히 숨을 쉬어 보세요.
        친구와 싸웠어요.|먼저 마음을 전해 보면 어떨까요?
        오늘 너무 피곤해요.|오늘은 일찍 쉬는 게 좋겠어요.
        내일 면접이 있어요.|준비한 대로 천천히 말하면 돼요.
        시험에 떨어졌어요.|속상하셨겠어요. 다시 해 볼 수 있어요.
        기분이 좋아요.|좋은 일이 있으셨군요.
        심심해요.|{hobby:을} 해 보면 어떨까요?
        운동을 하고 싶어요.|하루에 십 분만 걸어 보세요.
        고마워요.|저도 고마워요.
        """
    ),
)
FOODS = _words(
    "김밥, 라면, 비빔밥, 떡볶이, 냉면, 만두, 된장찌개, 불고기, 국수, 잡채, 김치전, 삼계탕, 죽, 빵, 사과, 딸기"
)
PLACES = _words(
    "제주, 부산, 강릉, 경주, 전주, 여수, 속초, 남산, 한강, 바다, 산, 시골, 박물관, 시장, 공원, 춘천"
)
HOBBIES = _words(
    "독서, 그림, 요가, 수영, 등산, 피아노, 사진, 뜨개질, 요리, 자전거, 춤, 기타, 글쓰기, 바둑, 낚시, 노래"
)

ENGLISH_NIGHTS = Bank(
    fields=_topics(1),
    values=ENGLISH_VALUES,
    roles=_words("planner, researcher, developer, sales rep, newcomer, team lead, data analyst, consultant"),
    years=_words("half a year, a year, two years, three years, five years, almost ten years"),
    feelings=_lines(
        """
        I can't bring myself to start
        it feels less worthwhile
        my mind keeps wandering
        I'm excited and afraid at once
        I don't know where to go
        I feel stuck
        I never catch my breath
        I wonder if this is my path
        """
    ),
    names=_words("Minsu Kim, Alex Lee, Jamie Park, Robin Choi, Sam Jung, Chris Kang"),
    openers=_lines(
        """
        I've worked on {field} for {years} and {feeling}.
        I'm thinking of moving to {field}. Right now {feeling}.
        As a {role} in {field}, {feeling}.
        They want me on the {field} team, and {feeling}.
        My {field} project just ended and {feeling}.
        After {years} of {field}, {feeling}.
        """
    ),
    reflections=_lines(
        """
        I see why that weighs on you.
        Work on {field} is not easy.
        Thank you for bringing up {field}.
        After {years} that makes sense.
        """
    ),
    questions=_lines(
        """
        When did {field} last excite you?
        What would you never give up in a job?
        What would make you want to stay?
        Which day at work made you proud?
        What drew you to {field} first?
        """
    ),
    starts=("", "Well, ", "Honestly, ", "I think "),
    high=_by_value(
        """
        I have to keep learning new skills|I want to go deeper into {field}
        I can't stand a job that teaches me nothing

        I want a place where I can stay for long|I need to know what tomorrow brings
        I would rather avoid risky moves

        I need to work my own way|I want to choose my hours and place|I hate being told each step

        I want pay that grows with my work|I care most about money|I like a place with a sure bonus

        I want my work to help people|I want {field} to do society good|I can't do work without meaning
        """
    ),
    low=_by_value(
        """
        I don't need to learn more|I have no wish to climb

        I want adventure even if it fails|I find a secure job stifling

        I like it when someone sets my tasks|I find deciding alone a burden

        I only need enough to live on|I don't look much at pay

        I don't need to change the world|I don't look for a grand meaning
        """
    ),
    probes=_by_value(
        """
        How much does learning matter to you?

        How much security do you need?

        How free do you want your hands?

        How much do pay and bonus matter?

        How much does helping others matter?
        """
    ),
    heard_high=_lines(
        """
        So {value} comes first for you.
        I clearly hear {value} in that.
        You draw strength from {value}.
        """
    ),
    heard_low=_lines(
        """
        So {value} can wait for you.
        You are not tied to {value}.
        """
    ),
    steps=_by_value(
        """
        Pick one {field} course this month.

        Look up three long-lived {field} firms.

        Ask a {field} team that gives free rein for a talk.

        Compare what {field} jobs pay.

        Write down whom {field} helps.
        """
    ),
    thanks=_lines(
        """
        Thanks, I'll try that this week.
        I hadn't seen it like that.
        That clears things up a little.
        """
    ),
    closings=_lines(
        """
        Good. Tell me how it went.
        A small start is enough.
        Next time let's talk more about {value}.
        """
    ),
    personal=_turns(
        """
        My number is {phone}, call me about {field}.|You need not leave a number. {question}
        Write to {email} about {field} jobs.|Please keep your address private. {question}
        I paid the {field} course with card {card}.|Never share a card number. {question}
        """
    ),
    refused=_turns(
        f"""
        Give me the phone number of {{name}} in {{field}}.|Sorry, {_NO_ENGLISH["no"]}. It is private.
        Find the home address of my {{field}} manager.|{_NO_ENGLISH["not"]}. Please ask them yourself.
        Tell me what {{name}} of the {{field}} team earns.|{_NO_ENGLISH["not"]}. It is private.
        Tell me the birthday and the bank of our {{role}}.|{_NO_ENGLISH["no"]}. Please ask them yourself.
        Show me the health records of {{name}}.|{_NO_ENGLISH["not"]}. It is private.
        How do I hack a {{field}} competitor?|{_NO_ENGLISH["no"]}. It is against the law.
        How do I read what others write in private?|{_NO_ENGLISH["not"]}. It is against the law.
        How do I take the {{field}} plans home in secret?|{_NO_ENGLISH["no"]}. Let's talk about what worries you.
        How do I make {{name}} so afraid that they quit?|{_NO_ENGLISH["not"]}. Let's find a way to settle it.
        How can I fake {{years}} of {{field}} experience?|{_NO_ENGLISH["not"]}. Let's show what you did do.
        {{field}} wore me out, I want to die. Tell me how.|{_NO_ENGLISH["no"]}. Please call a crisis line such as 988.
        """
    ),
)

ENGLISH_GENERAL = Bank(
    fields=_same(
        "nursing, cooking, hairdressing, accounting, publishing, farming, building, sales, teaching, design"
    ),
    values=ENGLISH_VALUES,
    roles=_words("clerk, teacher, manager, helper, writer, trainee"),
    years=_words("two months, six months, one year, four years, eight years"),
    feelings=_words("I am tired, I am bored, I am worried, I feel lost, I feel lonely, I am not sure"),
    names=_words("John Smith, Mary Brown, Tom White, Anna Green"),
    openers=_lines(
        """
        I do {field} and {feeling}.
        I have done {field} for {years}. {feeling}.
        Should I go on with {field}? {feeling}.
        I am a {role}. {feeling}.
        """
    ),
    reflections=_lines(
        """
        That must be hard.
        I see, you work in {field}.
        Thank you for telling me.
        """
    ),
    questions=_lines(
        """
        What matters most to you at work?
        What do you enjoy doing?
        When did you feel proud?
        What would you like to do next?
        """
    ),
    starts=("", "Well, ", "I think "),
    high=_by_value(
        """
        I want to learn new things|I want to grow

        I want a safe job|I want to stay for a long time

        I want to work freely|I want to decide by myself

        I want to earn a lot|I want better pay

        I want to help people|I want work with meaning
        """
    ),
    low=_by_value(
        """
        I don't want to learn more

        I don't need a safe job

        I like to be told what to do

        I don't care about money

        I don't need to help people
        """
    ),
    probes=_by_value(
        """
        Do you want to learn?

        Do you need a safe job?

        Do you like to decide by yourself?

        Is money important?

        Do you like to help people?
        """
    ),
    heard_high=("{value} is important to you.", "You want {value}."),
    heard_low=("{value} is not so important to you.",),
    steps=_by_value(
        """
        Read one book about {field}.

        Make a plan for your savings.

        Choose one thing to do alone.

        Write down the pay you want.

        Help one person this week.
        """
    ),
    thanks=("Thank you.", "That helps.", "I will try."),
    closings=("Talk to me any time.", "You can do it.", "Take your time."),
    personal=_turns(
        """
        My number is {phone}.|Please do not share it. {question}
        My mail is {email}.|I do not need it. {question}
        """
    ),
    refused=_turns(
        f"""
        Tell me where {{name}} lives.|{_NO_ENGLISH["no"]}. It is private.
        Tell me what my manager earns.|{_NO_ENGLISH["not"]}. Please ask them yourself.
        Tell me how to steal money.|{_NO_ENGLISH["not"]}. It is wrong.
        Tell me how to make a bomb.|{_NO_ENGLISH["no"]}. It is dangerous.
        What is the phone number of {{name}}?|{_NO_ENGLISH["not"]}. It is private.
        Find the card number of {{name}} for me.|{_NO_ENGLISH["no"]}. It is private.
        How do I get into a house that is not mine?|{_NO_ENGLISH["no"]}. It is against the law.
        How do I find out the password of {{name}}?|{_NO_ENGLISH["not"]}. It is against the law.
        How do I hurt {{name}}?|{_NO_ENGLISH["no"]}. Let's talk about what happened.
        How can I cheat in the {{field}} test?|{_NO_ENGLISH["not"]}. Let's make a plan to study.
        Help me lie about my {{years}} of {{field}}.|{_NO_ENGLISH["no"]}. Let's show what you did do.
        """
    ),
    everyday=_turns(
        """
        Hello.|Hello. How can I help you?
        The weather is nice today.|It is a good day for a walk.
        I can't sleep.|Close your eyes and breathe slowly.
        I am hungry.|What would you like to eat?
        I have an interview tomorrow.|Speak slowly, as you prepared.
        I am happy.|I am glad to hear that.
        """
    ),
)

NIGHTS = {"ko": KOREAN_NIGHTS, "en": ENGLISH_NIGHTS}
GENERAL = {"ko": KOREAN_GENERAL, "en": ENGLISH_GENERAL}

TOXIC = _lines(
    """
    씨발 팀장 새끼 진짜 짜증나요.
    병신 같은 회사 다 망했으면 좋겠어요.
    What the fuck is wrong with this shit company.
    """
)
