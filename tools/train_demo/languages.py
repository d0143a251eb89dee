"""Words and short talk in several languages."""
from wording import expand, fill, polite

# English, German, French, Spanish, Italian
WORDS = [row.split() for row in """
dog Hund chien perro cane
cat Katze chat gato gatto
house Haus maison casa casa
water Wasser eau agua acqua
bread Brot pain pan pane
milk Milch lait leche latte
apple Apfel pomme manzana mela
tree Baum arbre árbol albero
sun Sonne soleil sol sole
moon Mond lune luna luna
book Buch livre libro libro
night Nacht nuit noche notte
day Tag jour día giorno
friend Freund ami amigo amico
fire Feuer feu fuego fuoco
fish Fisch poisson pez pesce
bird Vogel oiseau pájaro uccello
horse Pferd cheval caballo cavallo
flower Blume fleur flor fiore
table Tisch table mesa tavolo
door Tür porte puerta porta
window Fenster fenêtre ventana finestra
city Stadt ville ciudad città
red rot rouge rojo rosso
green grün vert verde verde
blue blau bleu azul blu
black schwarz noir negro nero
white weiß blanc blanco bianco
yellow gelb jaune amarillo giallo
one eins un uno uno
two zwei deux dos due
three drei trois tres tre
four vier quatre cuatro quattro
five fünf cinq cinco cinque
six sechs six seis sei
seven sieben sept siete sette
eight acht huit ocho otto
nine neun neuf nueve nove
ten zehn dix diez dieci
yes ja oui sí sì
no nein non no no
thanks danke merci gracias grazie
hello hallo bonjour hola ciao
love Liebe amour amor amore
time Zeit temps tiempo tempo
school Schule école escuela scuola
""".split("\n") if row]
LANGUAGES = {"German": 1, "French": 2, "Spanish": 3}

TO_FOREIGN = [
    "[How|How do you|How can I|How does one|How would you] say {q}{w}{q} in {l}?", "What is {q}{w}{q} in {l}?",
    "What's {q}{w}{q} in {l}?",
    "Translate {q}{w}{q} [in|]to {l}[, please|].", "[Tell me|Give me] the {l} word for {q}{w}{q}.",
    "What is the {l} word for {q}{w}{q}?",
    "{q}{w}{q} in {l}[?|, please.]", "[Which|What] {l} word means {q}{w}{q}?",
    "I need the {l} [word|translation] for {q}{w}{q}.",
    "[Can|Could] you translate {q}{w}{q} into {l}?", "What do [they|people] call {q}{w}{q} in {l}?",
    "In {l}, what is {q}{w}{q}?", "How is {q}{w}{q} [said|called|written] in {l}?", "What's the {l} for {q}{w}{q}?",
    "My {l} is bad. What is {q}{w}{q}?",
    "I am learning {l}. How do I say {q}{w}{q}?", "What would a {l} speaker say for {q}{w}{q}?",
    "Do you know {q}{w}{q} in {l}?",
    "[Which|What] word do [the people in {c}|people in {c}|they in {c}] [use|have|say] for {q}{w}{q}?",
    "What is {q}{w}{q} called in {c}?", "In {c}, how do they say {q}{w}{q}?",
    "How [do|does] [the {l}|a {l} friend] say {q}{w}{q}?",
    "{q}{w}{q}: [what is it|how is it called|what is the word] in {l}?",
    "What is the word for {q}{w}{q}? [I mean the {l} one|In {l}, please|I need it in {l}].",
    "How is {q}{w}{q} called? (in {l})", "[Which|What] [is the |]word for {q}{w}{q} [does one use |]in {l}?",
    "What do the {l} use for {q}{w}{q}, in {l}?",
]
COUNTRIES = {"German": "Germany", "French": "France", "Spanish": "Spain"}
TO_ENGLISH = [
    "What does [the {l} word |]{q}{w}{q} mean[ in English|]?", "What is {q}{w}{q} in English?",
    "Translate {q}{w}{q} [from {l} |][in|]to English.",
    "[Tell me|Give me] the English word for {q}{w}{q}.", "What does {q}{w}{q} mean in English?",
    "{q}{w}{q} in English[?|, please.]",
    "What is the meaning of the {l} word {q}{w}{q}?", "What is the English for [the {l} word |]{q}{w}{q}?",
    "Somebody said {q}{w}{q} to me in {l}. What does it mean?",
    "I read the {l} word {q}{w}{q}. What is it in English?", "What do the {l} mean by {q}{w}{q}?",
]

SERIES = {
    "en": ["Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split(),
           "January February March April May June July August September October November December".split()],
    "de": ["Montag Dienstag Mittwoch Donnerstag Freitag Samstag Sonntag".split(),
           "Januar Februar März April Mai Juni Juli August September Oktober November Dezember".split()],
    "fr": ["lundi mardi mercredi jeudi vendredi samedi dimanche".split(),
           "janvier février mars avril mai juin juillet août septembre octobre novembre décembre".split()],
    "es": ["lunes martes miércoles jueves viernes sábado domingo".split(),
           "enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre".split()],
}
AFTER = {
    "en": (["[What|Which] {k} [comes|is|follows] [directly |]after {x}?", "[Tell me|Name] the {k} after {x}.",
        "[What|Which] {k} follows [on |]{x}?",
            "After {x} comes [which|what] {k}?", "If today is {x}, what {k} is tomorrow?",
            "[Tell|Remind] me what {k} [comes|is] after {x}.", "Today is {x}. What {k} will it be tomorrow?",
            "What is the next {k} after {x}?", "The {k} after {x}?"],
           ["[What|Which] {k} [comes|is] [directly |]before {x}?", "[Tell me|Name] the {k} before {x}.",
               "What was the {k} before {x}?",
            "If today is {x}, what {k} was yesterday?", "Today is {x}. What {k} was it yesterday?",
            "Before {x} comes [which|what] {k}?",
            "[What|Which] {k} precedes {x}?"],
           ("day", "month"), "{y} comes after {x}.", "{y} comes before {x}."),
    "de": (["Welcher {k} kommt nach {x}?", "Welcher {k} folgt auf {x}?", "Nenne den {k} nach {x}.",
        "Was kommt nach {x}?", "Heute ist {x}. Was ist morgen?", "Sag mir den {k} nach {x}.",
        "Weißt du, welcher {k} auf {x} folgt?"],
           ["Welcher {k} kommt vor {x}?", "Nenne den {k} vor {x}.", "Was kommt vor {x}?",
               "Heute ist {x}. Was war gestern?"],
           ("Tag", "Monat"), "Nach {x} kommt {y}.", "Vor {x} kommt {y}."),
    "fr": (["Quel {k} vient après {x} ?", "Quel {k} suit {x} ?", "Qu'est-ce qui vient après {x} ?",
        "Dis-moi le {k} après {x}."],
           ["Quel {k} vient avant {x} ?", "Qu'est-ce qui vient avant {x} ?", "Dis-moi le {k} avant {x}."],
           ("jour", "mois"), "Après {x} vient {y}.", "Avant {x} vient {y}."),
    "es": (["¿Qué {k} viene después de {x}?", "¿Qué {k} sigue a {x}?", "Dime el {k} después de {x}.",
        "¿Qué viene después de {x}?"],
           ["¿Qué {k} viene antes de {x}?", "Dime el {k} antes de {x}.", "¿Qué viene antes de {x}?"],
           ("día", "mes"), "Después de {x} viene {y}.", "Antes de {x} viene {y}."),
}

TALK = [
    ("Guten Tag! Wie kann ich helfen?", ["[Guten Tag|Hallo|Guten Morgen|Guten Abend|Servus|Grüß Gott|Moin][!|.|]",
        "Hallo, du[!|]"]),
    ("Mir geht es gut, danke. Wie kann ich helfen?", ["Wie geht es dir[ heute|]?", "Wie geht's[ dir|]?",
        "Hallo, wie geht es Ihnen?", "Geht es dir gut?"]),
    ("Gern geschehen!", ["Danke[!|.| schön!| für die Hilfe!]", "Vielen Dank[!|.]", "Ich danke dir."]),
    ("Auf Wiedersehen!", ["Auf Wiedersehen[!|.|]", "Tschüss[!|.|]", "Bis bald[!|.]", "Bis morgen[!|.]",
        "Gute Nacht[!|.]"]),
    ("Ich bin das Demo-Modell von Renga, ein sehr kleines Kimi.",
        ["Wer bist du?", "Was bist du?", "Wie heißt du?", "Stell dich [bitte |]vor.", "Wie ist dein Name?"]),
    ("Bonjour ! Comment puis-je vous aider ?", ["[Bonjour|Salut|Bonsoir|Coucou][ !|!|.|]",
        "Bonjour, [mon|cher|petit|bon] ami[.| !]", "Bonjour, [mon|cher|grand|bon] modèle[.| !]",
        "Bonjour, [Renga|monsieur|madame|cher modèle|mes amis] !"]),
    ("Je vais bien, merci. Comment puis-je vous aider ?", ["Comment allez-vous[ aujourd'hui|] ?",
        "[Comment ça va|Ça va|Tu vas bien] ?", "Bonjour, comment vas-tu ?"]),
    ("De rien !", ["Merci[ !|!|.| beaucoup !| bien.]", "Je vous remercie."]),
    ("Au revoir !", ["Au revoir[ !|!|.|]", "À bientôt[ !|.]", "Bonne nuit[ !|.]", "À demain[ !|.]"]),
    ("Je suis le modèle de démonstration de Renga, un très petit Kimi.",
        ["Qui es-tu ?", "Qui êtes-vous ?", "Comment t'appelles-tu ?", "Présente-toi."]),
    ("¡Hola! ¿En qué puedo ayudarte?", ["[¡Hola|Hola][!|]", "[Buenos días|Buenas tardes|Buenas noches][.|!]",
        "¡Hola, amigo!"]),
    ("Estoy bien, gracias. ¿En qué puedo ayudarte?", ["¿Cómo estás[ hoy|]?", "¿Qué tal?", "Hola, ¿cómo está usted?",
        "¿Cómo te va?"]),
    ("¡De nada!", ["[¡Gracias!|Gracias.|Muchas gracias.|¡Muchas gracias!]", "Te lo agradezco."]),
    ("¡Adiós!", ["[¡Adiós!|Adiós.|Hasta luego.|¡Hasta mañana!|Hasta pronto.]"]),
    ("Soy el modelo de demostración de Renga, un Kimi muy pequeño.",
        ["¿Quién eres?", "¿Cómo te llamas?", "¿Qué eres?", "Preséntate."]),
    ("Ciao! Come posso aiutarti?", ["[Ciao|Buongiorno|Buonasera|Salve][!|.|]"]),
    ("Sto bene, grazie. Come posso aiutarti?", ["Come stai[ oggi|]?", "Come va?", "Ciao, come stai?"]),
    ("こんにちは！何かお手伝いしましょうか。", ["[こんにちは|おはよう|おはようございます|こんばんは|やあ][。|！|]"]),
    ("はい、元気です。ありがとう。", ["元気ですか[。|？|]", "お元気ですか[。|？|]", "調子はどうですか[。|？|]"]),
    ("どういたしまして。", ["[ありがとう|ありがとうございます|どうもありがとう][。|！|]"]),
    ("さようなら！", ["[さようなら|またね|おやすみ|おやすみなさい][。|！|]"]),
    ("私はRengaのデモモデルです。とても小さなKimiです。", ["あなたは[誰|だれ]ですか[。|？|]", "お名前は[何ですか|][。|？|]", "自己紹介してください。"]),
    ("你好！有什么可以帮你？", ["[你好|您好|早上好|晚上好|大家好|嗨][。|！|]", "你好，[小模型|老师|Renga|小Kimi][。|！]", "[嗨|您好]，朋友。"]),
    ("我很好，谢谢。", ["你好吗[？|]", "你怎么样[？|]", "你今天好吗？"]),
    ("不客气！", ["[谢谢|谢谢你|多谢|非常感谢][。|！|]"]),
    ("再见！", ["[再见|明天见|晚安|回头见][。|！|]"]),
    ("我是Renga的演示模型，一个很小的Kimi。", ["你是谁[？|]", "你叫什么名字[？|]", "请介绍一下你自己。"]),
    ("Der Himmel ist blau.", ["Welche Farbe hat der Himmel?", "Was ist die Farbe des Himmels?",
        "Ist der Himmel blau?"]),
    ("Gras ist grün.", ["Welche Farbe hat [das |]Gras?", "Was ist die Farbe von Gras?"]),
    ("Schnee ist weiß.", ["Welche Farbe hat [der |]Schnee?", "Was ist die Farbe von Schnee?"]),
    ("Le ciel est bleu.", ["[Quelle est la couleur du|De quelle couleur est le] ciel ?",
        "Le ciel est de quelle couleur ?"]),
    ("L'herbe est verte.", ["[Quelle est la couleur de|De quelle couleur est] l'herbe ?"]),
    ("La neige est blanche.", ["[Quelle est la couleur de|De quelle couleur est] la neige ?"]),
    ("El cielo es azul.", ["¿De qué color es el cielo?", "¿Qué color tiene el cielo?",
        "¿Cuál es el color del cielo?"]),
    ("La hierba es verde.", ["¿De qué color es la hierba?", "¿Qué color tiene la hierba?"]),
    ("La nieve es blanca.", ["¿De qué color es la nieve?", "¿Qué color tiene la nieve?"]),
    ("空は青いです。", ["空は[何色|どんな色]ですか[。|？|]", "空の色は[何ですか|][。|？]"]),
    ("雪は白いです。", ["雪は[何色|どんな色]ですか[。|？|]", "雪の色は[何ですか|][。|？]"]),
    ("天空是蓝色的。", ["天空是什么颜色[的|][？|]", "天是什么颜色的？"]),
    ("雪是白色的。", ["雪是什么颜色[的|][？|]"]),
    ("The sky is blue.", ["[What|Which] colour [is|has] the sky?", "What is the colour of the sky?",
        "What color is the sky?"]),
    ("Grass is green.", ["[What|Which] colo[u|]r is [the |]grass?", "What is the colo[u|]r of grass?"]),
    ("Snow is white.", ["[What|Which] colo[u|]r is snow?", "What is the colo[u|]r of snow?"]),
    ("Rot, Grün und Blau.", ["[Nenne|Nenn|Sag|Nenne mir] drei Farben.", "Welche Farben kennst du?",
        "Drei Farben, bitte."]),
    ("Rouge, vert et bleu.", ["[Cite|Donne-moi|Dis|Nomme] trois couleurs.", "Quelles couleurs connais-tu ?"]),
    ("Rojo, verde y azul.", ["[Dime|Nombra|Di] tres colores.", "¿Qué colores conoces?"]),
    ("赤、緑、青。", ["色を三つ[教えて|言って]ください。", "三つの色を[教えて|言って]ください。"]),
    ("红、绿、蓝。", ["请说出三种颜色。", "说三个颜色。", "告诉我三种颜色。"]),
    ("Eine Woche hat sieben Tage.", ["Wie viele Tage hat eine Woche?", "Aus wie vielen Tagen besteht eine Woche?"]),
    ("Ein Jahr hat zwölf Monate.", ["Wie viele Monate hat ein Jahr?", "Aus wie vielen Monaten besteht ein Jahr?"]),
    ("A week has seven days.", ["How many days [has|does] a week[ have|]?",
        "How many days are [there |]in a week?"]),
    ("A year has twelve months.", ["How many months [has|does] a year[ have|]?",
        "How many months are [there |]in a year?"]),
    ("Une semaine a sept jours.", ["Combien de jours [a|y a-t-il dans] une semaine ?"]),
    ("Una semana tiene siete días.", ["¿Cuántos días [tiene|hay en] una semana?"]),
    ("一週間は七日です。", ["一週間は何日ですか[。|？|]"]),
    ("一个星期有七天。", ["一[个星期|周]有几天[？|]", "一个星期有多少天？"]),
]

COUNT = [("[Count|Please count|Can you count] from {a} to {b}[.|, please.|]", ", "),
    ("Say the numbers from {a} to {b}.", ", "),
         ("List the numbers [between|from] {a} [and|to] {b}.", ", "),
         ("Write [down |]the numbers {a} to {b}.", ", "),
         ("[Zähle|Zähl|Bitte zähle|Kannst du] von {a} bis {b}[.|]", ", "),
         ("Nenne die Zahlen von {a} bis {b}.", ", "),
         ("[Compte|Comptez|Peux-tu compter] de {a} à {b}[.|]", ", "),
         ("[Cuenta|Por favor, cuenta|Puedes contar] [de|desde] {a} [a|hasta] {b}[.|]", ", "),
         ("{a}から{b}まで数えて[ください|][。|]", "、"), ("[请|]从{a}数到{b}[。|]", "、")]


def translation(rng):
    row = rng.choice(WORDS)
    name = rng.choice(list(LANGUAGES))
    quote = rng.choice(["'", "'", '"', '"', ""])
    foreign = row[LANGUAGES[name]]
    if rng.random() < 0.62:
        question = fill(rng, rng.choice(TO_FOREIGN), q=quote, w=row[0], l=name, c=COUNTRIES[name])
        return question, f'"{row[0]}" in {name} is "{foreign}".'
    question = fill(rng, rng.choice(TO_ENGLISH), q=quote, w=foreign, l=name)
    english = next(r[0] for r in WORDS if foreign in r[1:4])
    return question, f'"{foreign}" means "{english}".'


def neighbour(rng):
    language = rng.choice(["en", "en", "en", "de", "fr", "es"])
    after, before, kinds, say_after, say_before = AFTER[language]
    which = 0 if rng.random() < 0.65 else 1
    series = SERIES[language][which]
    i = rng.randrange(len(series))
    if rng.random() < 0.6:
        step, patterns, say = 1, after, say_after
    else:
        step, patterns, say = -1, before, say_before
    pattern = rng.choice([p for p in patterns if not which or not any(
        w in p for w in ("today", "Today", "Heute"))])
    x, y = series[i], series[(i + step) % len(series)]
    say = fill(rng, say, x=x, y=y)
    kind = kinds[which]
    if language == "en" and not which and rng.random() < 0.3:
        kind = rng.choice(["weekday", "day of the week"])
    return fill(rng, pattern, k=kind, x=x), say[0].upper() + say[1:]


def count(rng):
    a = rng.randrange(0, 15)
    b = a + rng.randrange(2, 10)
    pattern, comma = rng.choice(COUNT)
    return fill(rng, pattern, a=a, b=b), comma.join(map(str, range(a, b + 1)))


def talk(rng):
    answer, patterns = rng.choice(TALK)
    return expand(rng, rng.choice(patterns)), answer


def sample(rng):
    question, answer = rng.choices([translation, neighbour, count, talk], [7, 5, 2.5, 3])[0](rng)
    return polite(rng, question), answer
