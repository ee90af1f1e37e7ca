"""Words of fourteen languages, from which synthetic speech is put together at random.

Chosen for their sounds: many have p, b, m, f or v, and rounded and spread vowels occur in every language.
"""

from numpy.random import Generator

WORDS = {
    "en": "mother paper bubble family very often water moon people summer boat five above happy music "
    "window phone number baby move open place believe problem remember voice young year work "
    "should just church measure good night tomorrow always quickly thing three animal coffee "
    "apple big map lamp room garden",
    "de": "Mutter Papier Abend Familie immer offen Wasser Mond Leute Sommer Boot fünf über glücklich "
    "Musik Fenster Zahl Baby bewegen Platz glauben Problem Stimme jung Arbeit schön Kirche Buch "
    "gute Nacht morgen schnell Ding drei Tier Kaffee Apfel groß Pfad Lampe Zimmer Garten "
    "vielleicht Vater warum Bäume Möwe",
    "es": "madre papel burbuja familia siempre abierto agua luna pueblo verano barco fuerte sobre feliz "
    "música ventana número bebé mover lugar creer problema recordar voz joven año trabajo iglesia "
    "bueno noche mañana rápido cosa tres animal café manzana grande mapa lámpara jardín porque "
    "también vivir uva empezar flor",
    "fr": "maman papier bulle famille toujours ouvert eau lune peuple bateau fort heureux musique "
    "fenêtre numéro bébé bouger place croire problème souvenir voix jeune année travail beau nuit "
    "demain vite chose animal café pomme grand carte lampe chambre jardin pourquoi aussi vivre "
    "peur feu bonjour merci parler bon",
    "it": "mamma carta bolla famiglia sempre aperto acqua luna popolo estate barca forte sopra felice "
    "musica finestra numero bambino muovere posto credere problema ricordare voce giovane anno "
    "lavoro chiesa buono notte domani veloce cosa tre animale caffè mela grande mappa lampada "
    "stanza giardino perché vivere uovo",
    "pt": "mãe papel bolha família sempre aberto água lua povo verão barco forte sobre feliz música "
    "janela número bebê mover lugar acreditar problema lembrar voz jovem ano trabalho igreja bom "
    "noite amanhã rápido coisa três animal café maçã grande mapa lâmpada quarto jardim porque "
    "também viver uva começar flor",
    "pl": "mama papier bańka rodzina zawsze otwarty woda księżyc lato łódź pięć nad szczęśliwy muzyka "
    "okno numer dziecko ruch miejsce wierzyć problem pamiętać głos młody rok praca dobry noc "
    "jutro szybko rzecz trzy zwierzę kawa jabłko duży mapa lampa pokój ogród dlaczego także żyć "
    "wiśnia początek kwiat babcia",
    "ru": "мама бумага пузырь семья всегда открыто вода луна люди лето лодка пять над счастливый музыка "
    "окно номер ребёнок место верить проблема помнить голос молодой год работа хороший ночь "
    "завтра быстро вещь три животное кофе яблоко большой карта лампа комната сад почему также "
    "жить вишня начало цветок бабушка",
    "tr": "anne baba kabarcık aile her zaman açık su ay insan yaz bot beş üzerinde mutlu müzik pencere "
    "numara bebek yer inanmak problem hatırlamak ses genç yıl iş iyi gece yarın hızlı şey üç "
    "hayvan kahve elma büyük harita lamba oda bahçe neden yaşamak vişne başlangıç çiçek köpek "
    "pamuk mavi ve parmak film vapur",
    "nl": "moeder papier bubbel familie altijd open water maan mensen zomer boot vijf boven gelukkig "
    "muziek raam nummer baby bewegen plaats geloven probleem stem jong jaar werk mooi kerk goed "
    "nacht morgen snel ding drie dier koffie appel groot kaart lamp kamer tuin waarom ook leven "
    "vuur bloem fiets vogel voet buiten wijn",
    "hu": "anya apa buborék család mindig nyitott víz hold nép nyár hajó öt fölött boldog zene ablak "
    "szám baba mozog hely hisz probléma emlékszik hang fiatal év munka szép templom jó éjszaka "
    "holnap gyors dolog három állat kávé alma nagy térkép lámpa szoba kert miért is él tűz virág "
    "film fehér fűszer vonat piros medve",
    "ro": "mamă hârtie balon familie mereu deschis apă lună oameni vară barcă foarte peste fericit "
    "muzică fereastră număr copil loc crede problemă amintire voce tânăr an muncă frumos biserică "
    "bun noapte mâine repede lucru trei animal cafea măr mare hartă lampă cameră grădină de ce "
    "trăi foc floare pâine vin",
    "sv": "mamma papper bubbla familj alltid öppen vatten måne folk sommar båt fem över lycklig musik "
    "fönster nummer bebis flytta plats tro problem minnas röst ung år arbete vacker kyrka god "
    "natt morgon snabb sak tre djur kaffe äpple stor karta lampa rum trädgård varför också leva "
    "eld blomma vinter pojke bil boll",
    "hi": "माँ पिता परिवार हमेशा पानी चाँद लोग गर्मी नाव पाँच ऊपर खुश संगीत खिड़की नंबर बच्चा "
    "जगह विश्वास समस्या याद आवाज़ जवान साल काम अच्छा रात कल जल्दी चीज़ तीन जानवर कॉफ़ी "
    "सेब बड़ा नक्शा कमरा बगीचा क्यों भी जीवन आग फूल बाज़ार फल भाई बहन मकान पुस्तक मीठा "
    "बारिश",
}


def sentence(language: str, rng: Generator) -> str:
    """Four to nine words in random order, some with a pause between.

    Raises:
        KeyError: there are no words of that language.
    """
    words = WORDS[language].split()
    chosen = [words[int(rng.integers(len(words)))] for _ in range(int(rng.integers(4, 10)))]
    if len(chosen) > 5 and rng.random() < 0.5:
        chosen[2] += ","
    return " ".join(chosen) + str(rng.choice([".", ".", "!", "?"]))
