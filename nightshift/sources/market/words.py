"""The words that titles, brands and descriptions are made of, Korean and English side by side.

A title is a style, a material or flavour, and a noun: `제주 감귤 초콜릿 · Jeju tangerine chocolate`. The style
word is not decoration: it names the direction in which the item's latent style points furthest, so that text
carries taste, as it does in a real shop.
"""

from __future__ import annotations

from dataclasses import dataclass

Pair = tuple[str, str]  # (Korean, English)


def _pairs(text: str) -> tuple[Pair, ...]:
    korean_english = (entry.split("/") for entry in text.split(","))
    return tuple((korean.strip(), english.strip()) for korean, english in korean_english)


@dataclass(frozen=True)
class Shelf:
    """One category. price: median price in KRW. peak: day of the year (1..366) when it sells best."""

    category: str
    korean: str
    price: int
    peak: int
    materials: tuple[Pair, ...]
    nouns: tuple[Pair, ...]


# Two words per latent style dimension: the positive direction, then the negative one.
STYLES = _pairs(
    "제주/Jeju, 클래식/Classic, 미니멀/Minimal, 귀여운/Cute, 수제/Handmade, 산뜻한/Fresh, 빈티지/Vintage, 포근한/Cozy"
)
STYLE_LINES = _pairs(
    "바람과 햇살을 담았습니다/Carries island wind and sun,"
    "오래 두고 쓰기 좋습니다/Made to last for years,"
    "꼭 필요한 것만 남겼습니다/Only what is needed,"
    "보기만 해도 웃음이 납니다/Makes you smile at a glance,"
    "하나하나 손으로 만들었습니다/Made by hand one at a time,"
    "가볍고 상쾌합니다/Light and refreshing,"
    "세월의 멋이 느껴집니다/With the charm of another time,"
    "추운 날에 잘 어울립니다/Good company on a cold day"
)
BRANDS = _pairs(
    "한라/Halla, 온유/Onyu, 달빛상회/Moonlight & Co, 소담/Sodam, 푸른솔/Blue Pine, 모리/Mori, 가온/Gaon,"
    "다온/Daon, 바른집/Bareun House, 느린오후/Slow Afternoon, 별하/Byulha, 라온/Raon, 해솔/Haesol,"
    "도담/Dodam, 아띠/Atti, 여울/Yeoul, 미르/Mir, 고운결/Goun, 하루/Haru, 북촌/Bukchon, 윤슬/Yunseul,"
    "마루/Maru, 초롱/Chorong, 나래/Narae"
)

SHELVES: tuple[Shelf, ...] = (
    Shelf(
        "food",
        "간식",
        9_000,
        330,
        _pairs(
            "감귤/tangerine, 흑임자/black sesame, 인절미/injeolmi, 말차/matcha, 유자/yuzu, 고구마/sweet potato,"
            "쑥/mugwort, 땅콩/peanut, 딸기/strawberry, 밤/chestnut"
        ),
        _pairs(
            "초콜릿/chocolate, 쿠키/cookies, 약과/yakgwa, 젤리/jelly, 카스텔라/castella, 양갱/yanggaeng,"
            "캐러멜/caramel, 강정/gangjeong, 파이/pie, 마들렌/madeleine, 잼/jam, 그래놀라/granola"
        ),
    ),
    Shelf(
        "tea",
        "차·커피",
        14_000,
        350,
        _pairs(
            "보리/barley, 우롱/oolong, 캐모마일/chamomile, 레몬/lemon, 생강/ginger, 국화/chrysanthemum,"
            "메밀/buckwheat, 장미/rose, 모과/quince, 콜드브루/cold brew"
        ),
        _pairs(
            "티백/tea bags, 잎차/leaf tea, 라테/latte, 원두/beans, 드립백/drip bags, 에이드/ade, 시럽/syrup,"
            "캡슐/capsules, 분말차/tea powder, 청/preserve, 콤부차/kombucha, 선물세트/gift set"
        ),
    ),
    Shelf(
        "beauty",
        "뷰티",
        21_000,
        120,
        _pairs(
            "쌀겨/rice bran, 병풀/centella, 어성초/heartleaf, 동백/camellia, 녹차/green tea, 알로에/aloe,"
            "인삼/ginseng, 꿀/honey, 쑥/mugwort, 히알루론/hyaluronic"
        ),
        _pairs(
            "크림/cream, 세럼/serum, 토너/toner, 마스크팩/sheet mask, 선크림/sunscreen, 립밤/lip balm,"
            "클렌저/cleanser, 핸드크림/hand cream, 샴푸/shampoo, 바디로션/body lotion, 미스트/mist, 비누/soap"
        ),
    ),
    Shelf(
        "fashion",
        "의류",
        39_000,
        280,
        _pairs(
            "린넨/linen, 코튼/cotton, 울/wool, 데님/denim, 니트/knit, 코듀로이/corduroy, 캐시미어/cashmere,"
            "플리스/fleece, 실크/silk, 거즈/gauze"
        ),
        _pairs(
            "셔츠/shirt, 원피스/dress, 가디건/cardigan, 재킷/jacket, 스커트/skirt, 팬츠/trousers, 조끼/vest,"
            "머플러/scarf, 양말/socks, 파자마/pyjamas, 후디/hoodie, 코트/coat"
        ),
    ),
    Shelf(
        "bags",
        "가방",
        45_000,
        60,
        _pairs(
            "캔버스/canvas, 가죽/leather, 나일론/nylon, 라탄/rattan, 스웨이드/suede, 누빔/quilted, 코바늘/crochet,"
            "방수/waterproof, 메시/mesh, 한지/hanji"
        ),
        _pairs(
            "토트백/tote bag, 백팩/backpack, 크로스백/crossbody bag, 파우치/pouch, 지갑/wallet, 숄더백/shoulder bag,"
            "에코백/eco bag, 카드지갑/card holder, 버킷백/bucket bag, 여행가방/travel bag, 보스턴백/duffel,"
            "슬링백/sling bag"
        ),
    ),
    Shelf(
        "living",
        "홈리빙",
        34_000,
        300,
        _pairs(
            "오크/oak, 라탄/rattan, 대리석/marble, 린넨/linen, 자작나무/birch, 유리/glass, 황동/brass, 도자기/ceramic,"
            "월넛/walnut, 한지/hanji"
        ),
        _pairs(
            "조명/lamp, 쿠션/cushion, 러그/rug, 선반/shelf, 거울/mirror, 화병/vase, 캔들/candle, 담요/blanket,"
            "시계/clock, 바구니/basket, 커튼/curtain, 디퓨저/diffuser"
        ),
    ),
    Shelf(
        "kitchen",
        "주방",
        28_000,
        250,
        _pairs(
            "스테인리스/stainless, 무쇠/cast iron, 대나무/bamboo, 분청/buncheong, 유기/bronze, 실리콘/silicone,"
            "법랑/enamel, 내열유리/heatproof glass, 옻칠/lacquer, 세라믹/ceramic"
        ),
        _pairs(
            "냄비/pot, 프라이팬/frying pan, 도마/cutting board, 머그/mug, 접시/plate, 수저세트/cutlery set,"
            "주전자/kettle, 밥그릇/rice bowl, 텀블러/tumbler, 보관용기/container, 칼/knife, 쟁반/tray"
        ),
    ),
    Shelf(
        "stationery",
        "문구",
        8_000,
        55,
        _pairs(
            "모눈/grid, 점선/dotted, 가죽/leather, 금박/gilded, 수채/watercolour, 재생지/recycled, 황동/brass,"
            "나무/wooden, 펠트/felt, 투명/clear"
        ),
        _pairs(
            "노트/notebook, 다이어리/diary, 만년필/fountain pen, 연필/pencil, 스티커/stickers, 엽서/postcards,"
            "마스킹테이프/masking tape, 필통/pencil case, 북마크/bookmark, 달력/calendar, 메모지/memo pad, 도장/stamp"
        ),
    ),
    Shelf(
        "digital",
        "디지털",
        59_000,
        320,
        _pairs(
            "무선/wireless, 블루투스/Bluetooth, 접이식/foldable, 휴대용/portable, 알루미늄/aluminium, 저소음/quiet,"
            "고속/fast, 태양광/solar, 자석/magnetic, 나무/wooden"
        ),
        _pairs(
            "이어폰/earphones, 키보드/keyboard, 마우스/mouse, 스피커/speaker, 충전기/charger, 보조배터리/power bank,"
            "거치대/stand, 웹캠/webcam, 조명/light, 케이블/cable, 가습기/humidifier, 선풍기/fan"
        ),
    ),
    Shelf(
        "outdoor",
        "아웃도어",
        42_000,
        160,
        _pairs(
            "초경량/ultralight, 방수/waterproof, 티타늄/titanium, 접이식/foldable, 보온/insulated, 카본/carbon,"
            "메시/mesh, 우드/wooden, 캔버스/canvas, 고어/breathable"
        ),
        _pairs(
            "텐트/tent, 의자/chair, 침낭/sleeping bag, 랜턴/lantern, 등산화/hiking boots, 모자/hat, 물병/bottle,"
            "요가매트/yoga mat, 스틱/trekking poles, 버너/stove, 방석/seat pad, 장갑/gloves"
        ),
    ),
    Shelf(
        "books",
        "도서",
        16_000,
        20,
        _pairs(
            "바다/sea, 골목/alley, 겨울/winter, 부엌/kitchen, 정원/garden, 고양이/cat, 산책/walking, 숲/forest,"
            "여행/travel, 편지/letter"
        ),
        _pairs(
            "에세이/essays, 소설/novel, 시집/poems, 그림책/picture book, 만화/comic, 사진집/photo book, 산문/prose,"
            "요리책/cookbook, 안내서/guide, 동화/tales, 잡지/magazine, 인문서/reader"
        ),
    ),
    Shelf(
        "pets",
        "반려동물",
        18_000,
        200,
        _pairs(
            "연어/salmon, 닭가슴살/chicken, 캣닢/catnip, 삼베/hemp, 원목/wooden, 고구마/sweet potato, 면/cotton,"
            "오리/duck, 북어/pollock, 펠트/felt"
        ),
        _pairs(
            "간식/treats, 사료/food, 장난감/toy, 방석/cushion, 하네스/harness, 목줄/lead, 스크래처/scratcher,"
            "식기/bowl, 집/house, 빗/brush, 옷/jumper, 이동장/carrier"
        ),
    ),
)
CATEGORIES = tuple(shelf.category for shelf in SHELVES)

COUNTRIES = {"KR": 0.72, "JP": 0.10, "US": 0.08, "TW": 0.06, "VN": 0.04}
AGE_GROUPS = {"10s": 0.10, "20s": 0.28, "30s": 0.27, "40s": 0.19, "50s": 0.11, "60+": 0.05}
TIERS = ("bronze", "silver", "gold", "vip")

# A topic is an aspect of a field, and from the thousandth on, of a field in a country.
FIELDS = _pairs(
    "배터리/battery, 로봇/robot, 위성/satellite, 반도체/semiconductor, 수소/hydrogen, 태양광/solar, 풍력/wind power,"
    "유전체/genomics, 백신/vaccine, 인공지능/AI, 양자컴퓨팅/quantum computing, 자율주행/self-driving, 드론/drone,"
    "블록체인/blockchain, 핀테크/fintech, 원격의료/telehealth, 스마트팜/smart farming, 배양육/cultured meat,"
    "디지털트윈/digital twin, 증강현실/augmented reality, 사이버보안/cybersecurity, 클라우드/cloud,"
    "엣지컴퓨팅/edge computing, 소형원전/small reactor, 탄소포집/carbon capture, 해상물류/shipping,"
    "스마트시티/smart city, 3D프린팅/3D printing, 나노소재/nanomaterial, 바이오플라스틱/bioplastic,"
    "웨어러블/wearable, 음성인식/speech recognition, 데이터센터/data centre, 초전도/superconductor,"
    "전기차/electric car, 도심항공/urban air, 에듀테크/edtech, 게임엔진/game engine, 콘텐츠/content, 수처리/water"
)
ASPECTS = _pairs(
    "재활용/recycling, 안전/safety, 표준/standards, 공급망/supply chain, 교육/training, 규제/regulation,"
    "자동화/automation, 수출/exports, 소재/materials, 설계/design, 검사/inspection, 시뮬레이션/simulation,"
    "유지보수/maintenance, 보험/insurance, 윤리/ethics, 인증/certification, 효율/efficiency, 플랫폼/platforms,"
    "센서/sensors, 구독/subscriptions, 오픈소스/open source, 스타트업/start-ups, 투자/investment, 임대/leasing,"
    "분석/analytics"
)
COUNTRIES_OF_TOPICS = _pairs(
    "한국/Korea, 일본/Japan, 대만/Taiwan, 베트남/Vietnam, 인도/India, 중국/China, 미국/USA, 캐나다/Canada,"
    "멕시코/Mexico, 브라질/Brazil, 영국/UK, 독일/Germany, 프랑스/France, 스페인/Spain, 이탈리아/Italy,"
    "폴란드/Poland, 튀르키예/Türkiye, 이집트/Egypt, 호주/Australia"
)
MOST_TOPICS = len(FIELDS) * len(ASPECTS) * (1 + len(COUNTRIES_OF_TOPICS))  # 20,000


def topic_name(number: int) -> str:
    """The name of a topic, 0 ≤ number < MOST_TOPICS, such as `배터리 재활용 · battery recycling`; no two alike."""
    turn, field = divmod(number, len(FIELDS))
    aspect = (field + turn) % len(ASPECTS)  # so that neighbours differ in both
    country = turn // len(ASPECTS)
    parts = [FIELDS[field], ASPECTS[aspect]]
    if country:
        parts.insert(0, COUNTRIES_OF_TOPICS[country - 1])
    korean, english = (" ".join(part[language] for part in parts) for language in (0, 1))
    return f"{korean} · {english}"
